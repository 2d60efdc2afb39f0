"""Pure ASGI around the application: admission, deadlines, body limits, connections."""
