"""The parts of benches/fleet."""
