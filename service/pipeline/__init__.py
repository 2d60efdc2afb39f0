"""What a request asks for, callable without HTTP: encode, generate, edit, sweep and verify."""
