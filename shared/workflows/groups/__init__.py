"""Enrollment groups and their issuing CAs."""
