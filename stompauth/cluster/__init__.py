"""Several nodes that act as one: who is connected where, and what all of them have to know."""
