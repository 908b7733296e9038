"""What the client tests share: the server, images made by hand, a signed raw client, the model's validator."""
