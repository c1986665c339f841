"""The tests' services in memory, held against the app's adapters over Azurite and the emulator: one suite for both."""
