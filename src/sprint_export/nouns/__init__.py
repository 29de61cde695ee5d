"""The nouns of the design: what is handed from stage to stage; values without behaviour, standard library only."""
