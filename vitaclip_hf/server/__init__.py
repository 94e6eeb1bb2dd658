"""An HTTP server that classifies uploaded videos. Needs the extra `serve`."""
