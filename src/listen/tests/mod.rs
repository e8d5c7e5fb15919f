//! The promises of this room, on real sockets. Deadlines are short here; what is
//! asserted is who is closed and what was answered, not how long it took.

mod stand;
mod wild;

mod deadlines;
mod limits;
mod stopping;
mod transports;
mod twins;
mod usual;
