"""The site's end of the connection: credentials, SuperNode, warm process, bundle guard."""
