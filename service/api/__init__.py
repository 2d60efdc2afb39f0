"""The REST interface: routes, what they take and what they answer. FastAPI stays in here, in `server` and in `app`."""
