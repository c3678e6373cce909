"""Engines: a session in this process alone, or shared by several worker processes."""
