"""How much traffic so many replicas carry: a simulation in virtual time, fed with measured or computed service times."""
