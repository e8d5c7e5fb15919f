//! http_destination
