"""Looking at answers: pictures of what was read and how it was scored."""
