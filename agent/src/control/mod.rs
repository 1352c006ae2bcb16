//! The control socket: HTTP/1.1 with JSON on a unix socket, versioned /v1.
