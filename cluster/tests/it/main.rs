//! Real clusters of real programs: that they come and go whole, and that Nginx keeps its promises.

mod command_line;
mod containers;
mod faults;
mod harness;
mod lifecycle;
mod nginx;
mod nginx_container;
mod nginx_logs;
mod nginx_upstreams;
mod replicas;
