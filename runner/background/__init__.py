"""Background mode: one POST per request, then polling."""
