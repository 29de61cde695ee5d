"""What a run will take, said before it: counted work over the measured machine, stage by stage."""
