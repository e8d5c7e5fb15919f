//! file_destination
