#include "router/http/request_reader.h"

#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace tandem::http {

namespace beast = boost::beast;

struct RequestReader::Parser {
  std::optional<beast::http::request_parser<beast::http::string_body>> beast;
};

namespace {

constexpr size_t kMaxReadBytes = 256 << 10;  // more than one read of a connection brings

std::string ToString(beast::string_view s) { return std::string(s.data(), s.size()); }

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The path of "/path?query" or "http://host/path?query", percent-decoded. Malformed: as it came,
// which is no path of ours.
std::string PathOf(std::string_view target) {
  target = target.substr(0, target.find('?'));
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (target.size() < scheme.size()) continue;
    if (!beast::iequals(target.substr(0, scheme.size()), scheme)) continue;
    const size_t slash = target.find('/', scheme.size());
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
    break;
  }
  std::string path;
  path.reserve(target.size());
  for (size_t i = 0; i < target.size(); ++i) {
    if (target[i] != '%') {
      path += target[i];
      continue;
    }
    const int high = i + 2 < target.size() ? HexDigit(target[i + 1]) : -1;
    const int low = i + 2 < target.size() ? HexDigit(target[i + 2]) : -1;
    if (high < 0 || low < 0) return std::string(target);
    path += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return path;
}

ApiError ParseFailure(const boost::system::error_code& ec, int max_header, int64_t max_body) {
  ApiError error;
  if (ec == beast::http::error::header_limit) {
    error = RequestError(431, "header_too_large",
                         fmt::format("the request header is larger than {} bytes", max_header));
  } else if (ec == beast::http::error::body_limit) {
    error = RequestError(413, "body_too_large",
                         fmt::format("the request body is larger than {} bytes", max_body));
  } else {
    error = RequestError(400, "bad_http", fmt::format("this is not HTTP/1.1: {}", ec.message()));
  }
  error.close = true;
  return error;
}

}  // namespace

RequestReader::RequestReader(int max_header_bytes, int64_t max_body_bytes,
                             const std::string* session_header)
    : max_header_bytes_(max_header_bytes),
      max_body_bytes_(max_body_bytes),
      session_header_(session_header),
      parser_(std::make_unique<Parser>()) {
  Reset();
}

RequestReader::~RequestReader() = default;

void RequestReader::Reset() {
  parser_->beast.emplace();
  parser_->beast->header_limit(static_cast<uint32_t>(max_header_bytes_));
  parser_->beast->body_limit(static_cast<uint64_t>(max_body_bytes_));
  header_seen_ = false;
  request_ = {};
}

// Beast bounds header and body, but neither a chunk's extension nor the trailers, of which nothing
// is consumed until they are complete.
RequestReader::State RequestReader::NeedMore(size_t unconsumed) {
  if (unconsumed <= static_cast<size_t>(max_header_bytes_) + kMaxReadBytes) return State::kNeedMore;
  error_ = ParseFailure(beast::http::error::header_limit, max_header_bytes_, max_body_bytes_);
  return State::kFailed;
}

RequestReader::State RequestReader::Put(std::string_view bytes, size_t& consumed) {
  auto& parser = *parser_->beast;
  consumed = 0;
  while (!parser.is_done() && (consumed < bytes.size() || parser.is_header_done())) {
    boost::system::error_code ec;
    const size_t used =
        parser.put(boost::asio::const_buffer(bytes.data() + consumed, bytes.size() - consumed), ec);
    consumed += used;
    if (ec && ec != beast::http::error::need_more) {
      error_ = ParseFailure(ec, max_header_bytes_, max_body_bytes_);
      return State::kFailed;
    }
    if (parser.is_header_done() && !header_seen_) {
      header_seen_ = true;
      if (!CheckFraming()) return State::kFailed;
      parser.eager(true);
      ReadHeader();
      return State::kHeader;
    }
    if (parser.is_done()) break;
    if (ec == beast::http::error::need_more || used == 0) break;
  }
  if (!parser.is_done()) return NeedMore(bytes.size() - consumed);
  request_.body = std::move(parser.get().body());
  return State::kDone;
}

bool RequestReader::Refuse(int status, std::string_view why) {
  error_ = RequestError(status, status == 501 ? "unsupported_transfer_encoding" : "bad_http",
                        std::string(why));
  error_.close = true;
  return false;
}

// What Beast lets pass and a proxy in front may read otherwise: whoever disagrees on where a body
// ends can be made to take a part of it for a request.
bool RequestReader::CheckFraming() {
  namespace http = beast::http;
  const auto& message = parser_->beast->get();
  const size_t hosts = message.count(http::field::host);
  const bool http_1_1 = message.version() >= 11;
  if (hosts > 1 || (hosts == 0 && http_1_1)) {
    return Refuse(400, fmt::format("a request has one Host header, not {}", hosts));
  }
  if (message[http::field::host].find_first_of(" \t/?#@,") != beast::string_view::npos) {
    return Refuse(400, "the Host header is not HOST or HOST:PORT");
  }
  const beast::string_view length = message[http::field::content_length];
  if (message.count(http::field::content_length) > 1 ||
      length.find(',') != beast::string_view::npos) {
    return Refuse(400, "a request has at most one Content-Length");
  }
  const size_t codings = message.count(http::field::transfer_encoding);
  if (codings == 0) return true;
  if (message.count(http::field::content_length) > 0) {
    return Refuse(400, "a request has a Content-Length or a Transfer-Encoding, not both");
  }
  if (!http_1_1) return Refuse(400, "HTTP/1.0 has no Transfer-Encoding");
  if (codings > 1 || !beast::iequals(message[http::field::transfer_encoding], "chunked")) {
    return Refuse(501, "the only Transfer-Encoding known is chunked");
  }
  return true;
}

void RequestReader::ReadHeader() {
  const auto& parser = *parser_->beast;
  const auto& message = parser.get();
  request_.method = ToString(message.method_string());
  request_.path = PathOf(ToString(message.target()));
  request_.content_type = ToString(message[beast::http::field::content_type]);
  const auto encodings = message.equal_range(beast::http::field::content_encoding);
  for (auto it = encodings.first; it != encodings.second; ++it) {
    request_.content_encoding += (it == encodings.first ? "" : ", ") + ToString(it->value());
  }
  request_.authorization = ToString(message[beast::http::field::authorization]);
  request_.request_id = ToString(message["x-request-id"]);
  request_.timing = ToString(message["x-tandem-timing"]);
  request_.ttft_deadline_ms = ToString(message["x-tandem-ttft-deadline-ms"]);
  request_.priority = ToString(message["x-tandem-priority"]);
  if (session_header_ != nullptr && !session_header_->empty()) {
    request_.session = ToString(message[*session_header_]);
  }
  request_.http_1_0 = message.version() < 11;
  // HTTP/1.0 keeps a connection by an agreement of its own, which is not worth having.
  request_.keep_alive = message.keep_alive() && !request_.http_1_0;
  request_.chunked = parser.chunked();
  if (const auto length = parser.content_length()) {
    request_.content_length = static_cast<int64_t>(*length);
  }
  if (const auto expect = message.find(beast::http::field::expect); expect != message.end()) {
    const bool known = beast::iequals(expect->value(), "100-continue");
    request_.bad_expectation = !known;
    request_.expects_continue = known && !request_.http_1_0;  // which knows no 100
  }
}

}  // namespace tandem::http
