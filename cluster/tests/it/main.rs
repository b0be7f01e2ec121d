//! Real clusters of real programs: that they come and go whole, and that Nginx keeps its promises.

mod command_line;
mod container;
mod containers;
mod edge;
mod fault_command;
mod faults;
mod harness;
mod lifecycle;
mod long;
mod nginx;
mod nginx_container;
mod nginx_logs;
mod nginx_upstreams;
mod redis_sets;
mod replicas;
