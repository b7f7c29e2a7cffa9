"""The server: a page, live sessions over a WebSocket, and render jobs. Needs the extra `serve`."""
