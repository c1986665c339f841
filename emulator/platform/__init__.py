"""What all services stand on: state, clock, tokens and signatures, planned faults, rates, variants."""
