"""The family TwinFlow on SANA: SANA's networks with a second time embedder, and TwinFlow's times."""
