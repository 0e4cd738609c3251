"""The control server on 127.0.0.1: the API, its guard, and the control page."""
