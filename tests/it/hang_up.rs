//! hang_up
