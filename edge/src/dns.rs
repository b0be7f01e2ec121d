//! The name server that Nginx asks: it knows the replicas' names and nothing else, and answers with the addresses of those that
//! should be used.

use std::{net::IpAddr, sync::Arc};

use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use tokio::net::UdpSocket;
use tracing::warn;

use crate::replicas::Replicas;

/// Seconds for which an answer may be kept. Nginx has its own idea (`valid=` in upstreams.conf), which is no longer.
const TTL: u32 = 1;
/// What Nginx takes of an answer over UDP, in bytes: some 250 addresses of IPv4, and 140 of IPv6.
const LONGEST_RESPONSE: usize = 4096;

/// Answers queries for ever.
pub async fn serve(socket: UdpSocket, services: Arc<[Replicas]>) {
    let mut query = [0; 512];
    loop {
        // An error is that of an earlier answer, whose asker is gone.
        let Ok((length, asker)) = socket.recv_from(&mut query).await else { continue };
        if let Some(response) = respond(&query[..length], &services)
            && let Err(error) = socket.send_to(&response, asker).await
        {
            warn!(%error, "a DNS query cannot be answered");
        }
    }
}

/// The response to a query; none to what is no query.
fn respond(query: &[u8], services: &[Replicas]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok().filter(|message| message.metadata.message_type == MessageType::Query)?;
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.authoritative = true;
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    let Some(question) = query.queries.first().filter(|_| query.metadata.op_code == OpCode::Query) else {
        response.metadata.response_code = ResponseCode::NotImp;
        return response.to_vec().ok();
    };
    response.add_query(question.clone());
    let name = question.name();
    match services.iter().find(|service| is_name_of(name, service)).map(Replicas::to_use) {
        None => response.metadata.response_code = ResponseCode::NXDomain,
        // Not resolved yet: Nginx asks again, and does not remember that there was nobody.
        Some(addresses) if addresses.is_empty() => response.metadata.response_code = ResponseCode::ServFail,
        Some(addresses) => {
            let matching = addresses.into_iter().filter_map(|address| match (address, question.query_type()) {
                (IpAddr::V4(address), RecordType::A) => Some(RData::A(address.into())),
                (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(address.into())),
                _ => None,
            });
            // The rest has its turn when one of these ends.
            let fitting = matching.take((LONGEST_RESPONSE - 512) / 28);
            response.add_answers(fitting.map(|data| Record::from_rdata(name.clone(), TTL, data)));
        }
    }
    response.to_vec().ok()
}

fn is_name_of(name: &Name, service: &Replicas) -> bool {
    Name::from_utf8(&service.address.host).is_ok_and(|host| host.eq_ignore_root_case(name))
}
