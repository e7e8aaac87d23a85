"""The quantities that are measured when a spec asks for them, one gauge each."""
