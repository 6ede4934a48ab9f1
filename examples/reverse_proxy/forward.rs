//! The one handler: a request goes to the origin, and the answer comes back, as they are.

use std::{error::Error, fmt, iter, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    body::{self, BodyStream, SizedStream},
    dev,
    error::{self, PayloadError},
    http::{
        Method, StatusCode,
        header::{self, HeaderValue},
    },
    rt, web,
    web::Bytes,
};
use futures_util::{Stream, StreamExt as _};
use http::{Request, Uri, uri};
use http_body_util::{BodyExt as _, Channel, Either, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

/// A request body on its way; `Empty` tells hyper that there is none, where an ended stream would not.
type Upload = Either<Channel<Bytes, PayloadError>, Empty<Bytes>>;

/// Fields that concern one connection or one proxy, and end here (RFC 9110 7.6.1, RFC 9111 3.1).
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The origin gave no answer. As an error, not a response, it differs from a 502 that the origin sent.
#[derive(Debug)]
pub(crate) struct OriginUnreachable;

impl fmt::Display for OriginUnreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the origin cannot be reached")
    }
}

impl ResponseError for OriginUnreachable {
    fn status_code(&self) -> StatusCode {
        StatusCode::BAD_GATEWAY
    }
}

/// The origin, and the connections to it that one worker holds.
pub(crate) struct Origin {
    authority: uri::Authority,
    client: Client<HttpConnector, Upload>,
}

impl Origin {
    pub(crate) fn new(authority: uri::Authority) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Many servers close an idle connection after 5 s; a request written just then would be lost.
            .pool_idle_timeout(Duration::from_secs(4))
            .build(connector);
        Self { authority, client }
    }
}

/// Makes the request, before the cache looks at it, the one that the origin will see.
///
/// Were this left to the handler, a client could have one answer stored under another one's key: with
/// `Connection: accept-language`, or with a `Host` beside an absolute target (RFC 9112 3.2.2).
pub(crate) fn settle(head: &mut dev::RequestHead) {
    let connection = head.headers.get_all(header::CONNECTION);
    for name in connection_options(connection.map(HeaderValue::as_bytes)) {
        // Not options of a connection, whatever the client says: without them the message has no meaning.
        if !["host", "content-length", "transfer-encoding"].contains(&&*name) {
            head.headers.remove(name);
        }
    }
    if let Some(authority) = head.uri.authority() {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        if let Ok(host) = HeaderValue::from_str(host) {
            head.headers.insert(header::HOST, host);
        }
    }
}

/// Forwards one request.
pub(crate) async fn forward(
    request: HttpRequest,
    payload: web::Payload,
    origin: web::Data<Origin>,
) -> actix_web::Result<HttpResponse> {
    if request.method() == Method::CONNECT {
        return Err(error::ErrorNotImplemented("no tunnels here"));
    }
    let outgoing = outgoing(&request, payload, &origin.authority).map_err(error::ErrorBadRequest)?;
    let answer = match origin.client.request(outgoing).await {
        Ok(answer) if !answer.status().is_informational() => answer,
        // The client broke off, which says nothing about the origin.
        Err(error) if caused_by::<PayloadError>(&error) => {
            return Err(error::ErrorBadRequest("the request body broke off"));
        }
        // A switch of protocols that nobody asked for is no answer either.
        _ => return Err(OriginUnreachable.into()),
    };
    let (head, body) = answer.into_parts();
    incoming(&head, body.into_data_stream())
}

/// The same request in hyper's types, which are those of a later `http` crate than actix uses.
fn outgoing(
    request: &HttpRequest,
    payload: web::Payload,
    origin: &uri::Authority,
) -> http::Result<Request<Upload>> {
    let target = request.uri().path_and_query();
    let uri = Uri::builder()
        .scheme("http")
        .authority(origin.clone())
        .path_and_query(target.map_or("/", |target| target.as_str()));
    let mut outgoing = Request::builder().method(request.method().as_str()).uri(uri.build()?);
    for (name, value) in request.headers() {
        if !HOP_BY_HOP.contains(&name.as_str()) {
            outgoing = outgoing.header(name.as_str(), value.as_bytes());
        }
    }
    outgoing.body(upload(request, payload))
}

/// Lends hyper, which wants bodies that are `Send`, one that is not.
fn upload(request: &HttpRequest, mut payload: web::Payload) -> Upload {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
    if !chunked && length.is_none_or(|length| length == "0") {
        return Either::Right(Empty::new());
    }
    let (mut sender, body) = Channel::new(1);
    rt::spawn(async move {
        while let Some(chunk) = payload.next().await {
            let sent = match chunk {
                Ok(chunk) => sender.send_data(chunk).await,
                Err(error) => return sender.abort(error),
            };
            if sent.is_err() {
                return; // The origin may answer, and be gone, before it has heard all.
            }
        }
    });
    Either::Left(body)
}

/// The same answer in actix's types. Bytes that end short or fail break the client's connection, as they should.
fn incoming<E: Error + 'static>(
    head: &http::response::Parts,
    chunks: impl Stream<Item = Result<Bytes, E>> + 'static,
) -> actix_web::Result<HttpResponse> {
    let status = StatusCode::from_u16(head.status.as_u16()).map_err(error::ErrorBadGateway)?;
    let connection = head.headers.get_all(http::header::CONNECTION);
    let named = connection_options(connection.iter().map(http::HeaderValue::as_bytes));
    let mut answer = HttpResponse::build(status);
    for (name, value) in &head.headers {
        if !HOP_BY_HOP.contains(&name.as_str()) && !named.iter().any(|option| option == name.as_str()) {
            answer.append_header((name.as_str(), value.as_bytes()));
        }
    }
    // actix writes Content-Length from the size of the body: of a HEAD answer, too, though no byte follows.
    let chunked = head.headers.contains_key(http::header::TRANSFER_ENCODING);
    let length = head.headers.get(http::header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    Ok(match (status, length) {
        (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED, _) => answer.body(body::None::new()),
        (_, Some(length)) if !chunked => answer.body(SizedStream::new(length, chunks)),
        _ => answer.body(BodyStream::new(chunks)),
    })
}

/// Names of the fields that a `Connection` field declares to be about the connection, in lower case.
fn connection_options<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    values
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|option| String::from_utf8_lossy(option.trim_ascii()).to_ascii_lowercase())
        .collect()
}

fn caused_by<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    iter::successors(Some(error), |&error| error.source()).any(|error| error.is::<E>())
}
