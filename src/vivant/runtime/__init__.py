"""How networks are run: on which device, in which precision, compiled or not. Knows no family."""
