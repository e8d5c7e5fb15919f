//! same_id
