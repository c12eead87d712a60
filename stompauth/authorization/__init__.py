"""May they? Destinations, rules and decisions."""
