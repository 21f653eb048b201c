#include "router/http/connection.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

#include "common/clock.h"
#include "common/observe/log.h"
#include "router/http/openai_response.h"
#include "router/http/request_options.h"

namespace tandem::http {
namespace {

namespace asio = boost::asio;
using Error = boost::system::error_code;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

// A refused request's body up to this size is read, so that the connection can stay.
constexpr int64_t kReadAnywayBytes = 64 << 10;
constexpr size_t kKeptBytes = 64 << 10;  // of memory for input, between requests
constexpr Nanos kLingerTime = kSecond;

}  // namespace

Connection::Connection(asio::ip::tcp::socket socket, ConnectionContext& context)
    : socket_(std::move(socket)),
      context_(context),
      service_(context.handler.service()),
      wake_(socket_.get_executor(), asio::steady_timer::time_point::max()),
      reader_(context.limits.max_header_bytes, context.limits.max_body_bytes,
              &context.session_header) {
  Error ignored;  // options are wishes
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  // What the kernel holds for a slow reader is bounded like what we hold.
  const int64_t send_buffer =
      std::clamp<int64_t>(context.limits.max_stream_buffer_bytes, 4096, 256 << 10);
  socket_.set_option(asio::socket_base::send_buffer_size(static_cast<int>(send_buffer)), ignored);
  context_.open.insert(this);
  service_.probe().ConnectionOpened();
}

Connection::~Connection() {
  context_.open.erase(this);
  service_.probe().ConnectionClosed();
}

void Connection::Close() {
  gone_ = true;
  Error ignored;
  socket_.close(ignored);
}

void Connection::CheckDeadline(Nanos now) {
  if (deadline_ == 0 || now < deadline_) return;
  deadline_ = 0;
  timed_out_ = true;
  Error ignored;
  socket_.cancel(ignored);
}

void Connection::CloseIfIdle() {
  if (!busy_) Close();
}

void Connection::Wake() { wake_.cancel(); }

// Called out of the service, which is in the middle of this call: so not at once.
void Connection::CutOff() {
  asio::post(socket_.get_executor(), [this, self = shared_from_this(), late = call_] {
    if (call_ != late || gone_) return;
    gone_why_ = "slow_reader";
    service_.Abandon(*call_, gone_why_);
    Close();
    Wake();
  });
}

asio::awaitable<void> Connection::Run() {
  const auto self = shared_from_this();
  bool more = true;
  while (more) {
    HttpRequest request;
    more = co_await ReadRequest(request);
    if (more) more = co_await Respond(std::move(request));
    busy_ = false;
    if (service_.draining()) more = false;
  }
  co_await Linger();
}

asio::awaitable<void> Connection::Refuse() {
  const auto self = shared_from_this();
  busy_ = true;
  request_id_.clear();
  ApiError error = ServerError(503, "too_many_connections", "too many connections; try again");
  service_.probe().ConnectionRefused();
  service_.probe().Failed(error.code);
  const bool written = co_await WriteAnswer(Handler::ErrorAnswer(error), false);
  if (written) co_await Linger();
}

// Closing with unread bytes would reset the connection and might destroy our last response on its
// way: say that we are done, and read on for a moment.
asio::awaitable<void> Connection::Linger() {
  if (!gone_) {
    Error ignored;
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    deadline_ = MonotonicNow() + kLingerTime;
    timed_out_ = false;
    bool open = true;
    while (open && !timed_out_) {
      const auto [error, count] = co_await socket_.async_read_some(asio::buffer(chunk_), kAwait);
      open = !error;
    }
  }
  Close();
}

asio::awaitable<bool> Connection::ReadMore() {
  const auto [error, count] = co_await socket_.async_read_some(asio::buffer(chunk_), kAwait);
  if (error) {
    if (!timed_out_) gone_ = true;
    co_return false;
  }
  Append(count);
  co_return true;
}

// What is parsed goes once it is the larger part, so that a byte is moved once on average, however
// many short requests wait.
void Connection::Append(size_t count) {
  if (parsed_ * 2 >= in_.size()) {
    in_.erase(0, parsed_);
    parsed_ = 0;
  }
  in_.append(chunk_.data(), count);
}

asio::awaitable<bool> Connection::ReadRequest(HttpRequest& request) {
  received_ = 0;
  refusal_.reset();
  request_id_.clear();
  timed_out_ = false;
  deadline_ = MonotonicNow() + context_.limits.idle_timeout;
  if (num_unparsed() == 0 && in_.capacity() > kKeptBytes) {
    std::string().swap(in_);
    parsed_ = 0;
  }
  while (true) {
    if (num_unparsed() > 0 && received_ == 0) {
      busy_ = true;
      received_ = MonotonicNow();
      deadline_ = received_ + context_.limits.header_timeout;
    }
    size_t used = 0;
    const RequestReader::State state = reader_.Put(std::string_view(in_).substr(parsed_), used);
    parsed_ += used;
    if (state == RequestReader::State::kDone) break;
    bool good = true;
    if (state == RequestReader::State::kFailed) {
      service_.probe().Failed(reader_.error().code);
      const bool written = co_await WriteAnswer(Handler::ErrorAnswer(reader_.error()), false);
      (void)written;
      good = false;
    } else if (state == RequestReader::State::kHeader) {
      good = co_await HeaderRead();
    } else {
      good = co_await ReadMore();
      if (!good && timed_out_ && received_ != 0) {
        ApiError error = RequestError(408, "request_timeout", "the request did not come in time");
        service_.probe().Failed(error.code);
        timed_out_ = false;
        const bool written = co_await WriteAnswer(Handler::ErrorAnswer(error), false);
        (void)written;
      }
    }
    if (!good) co_return false;
  }
  deadline_ = 0;
  request = reader_.Take();
  reader_.Reset();
  co_return true;
}

Answer Connection::Refused(const HttpRequest& request) const {
  Answer answer = Handler::ErrorAnswer(*refusal_);
  answer.head_only = request.method == "HEAD";
  return answer;
}

asio::awaitable<bool> Connection::HeaderRead() {
  const HttpRequest& request = reader_.request();
  deadline_ = MonotonicNow() + context_.limits.body_timeout;
  request_id_ = context_.handler.RequestIdFor(request);
  refusal_ = context_.handler.Check(request);
  if (refusal_) {
    const bool small = !request.chunked && request.content_length.value_or(0) <= kReadAnywayBytes;
    if (small && !request.expects_continue) co_return true;
    service_.probe().Failed(refusal_->code);
    const bool written = co_await WriteAnswer(Refused(request), false);
    (void)written;
    co_return false;
  }
  if (!request.expects_continue || !request.has_body()) co_return true;
  const bool written = co_await WriteAll("HTTP/1.1 100 Continue\r\n\r\n");
  deadline_ = MonotonicNow() + context_.limits.body_timeout;
  co_return written;
}

asio::awaitable<bool> Connection::WriteAll(std::string_view bytes) {
  while (!bytes.empty()) {
    deadline_ = MonotonicNow() + context_.limits.slow_reader_timeout;  // for any progress
    const auto [error, count] =
        co_await socket_.async_write_some(asio::buffer(bytes.data(), bytes.size()), kAwait);
    if (error) {
      if (!timed_out_) gone_ = true;
      co_return false;
    }
    bytes.remove_prefix(count);
  }
  deadline_ = 0;
  co_return true;
}

asio::awaitable<bool> Connection::WriteAnswer(const Answer& answer, bool keep_alive) {
  const bool close = !keep_alive || answer.close || service_.draining();
  std::string out = HeadText(
      {.status = answer.status,
       .content_type = answer.content_type,
       .request_id = request_id_,
       .allow = answer.allow,
       .retry_after = answer.retry_after,
       .content_length = answer.status == 204 ? -1 : static_cast<int64_t>(answer.body.size()),
       .close = close});
  if (!answer.head_only) out += answer.body;
  service_.probe().Answered(answer.status);
  observe::LogEvent(answer.status >= 400 ? observe::LogLevel::kInfo : observe::LogLevel::kDebug,
                    "request",
                    {{"id", request_id_}, {"status", answer.status}, {"error", answer.error_code}});
  const bool written = co_await WriteAll(out);
  co_return written && !close;
}

asio::awaitable<bool> Connection::Respond(HttpRequest request) {
  if (refusal_) {
    service_.probe().Failed(refusal_->code);
    co_return co_await WriteAnswer(Refused(request), request.keep_alive);
  }
  const std::variant<Answer, Endpoint> handled = context_.handler.Handle(request);
  if (const Answer* answer = std::get_if<Answer>(&handled)) {
    if (!answer->error_code.empty()) service_.probe().Failed(answer->error_code);
    co_return co_await WriteAnswer(*answer, request.keep_alive);
  }
  const Endpoint endpoint = std::get<Endpoint>(handled);
  if (endpoint == Endpoint::kTokenize || endpoint == Endpoint::kDetokenize) {
    co_return co_await Tokenize(endpoint, request);
  }
  co_return co_await Generate(endpoint, request);
}

asio::awaitable<bool> Connection::Tokenize(Endpoint endpoint, const HttpRequest& request) {
  const auto api = std::make_shared<ApiRequest>();
  std::optional<Answer> answer;
  if (std::optional<ApiError> error = ParseRequest(endpoint, request.body, *api)) {
    answer = Handler::ErrorAnswer(*error);
  } else {
    service_.Tokenize(api, [this, self = shared_from_this(), &answer](auto reply) {
      const auto* error = std::get_if<ApiError>(&reply);
      answer = error != nullptr ? Handler::ErrorAnswer(*error)
                                : Handler::JsonAnswer(std::get<std::string>(std::move(reply)));
      Wake();
    });
  }
  while (!answer) {
    const auto [ignored] = co_await wake_.async_wait(kAwait);
    (void)ignored;
  }
  if (!answer->error_code.empty()) service_.probe().Failed(answer->error_code);
  co_return co_await WriteAnswer(*answer, request.keep_alive);
}

asio::awaitable<bool> Connection::Generate(Endpoint endpoint, const HttpRequest& request) {
  const auto call = std::make_shared<ApiCall>();
  const Nanos start = MonotonicNow();
  call->before.received = received_;
  call->before.read = start - received_;
  std::optional<ApiError> error = ParseRequest(endpoint, request.body, call->api);
  if (!error) error = ReadOptions(request, service_.admission(), *call);
  if (error) {
    service_.probe().Failed(error->code);
    co_return co_await WriteAnswer(Handler::ErrorAnswer(*error), request.keep_alive);
  }
  call->request_id = request_id_;
  call->timing = request.timing == "1";
  call->client = context_.handler.ClientOf(request);
  call->before.parse = MonotonicNow() - start;
  MakeGenerations(*call);
  Reply reply(
      call,
      {.http_1_0 = request.http_1_0,
       .close = !request.keep_alive || service_.draining(),
       .make_aside = [this](auto make,
                            auto done) { service_.MakeAside(std::move(make), std::move(done)); }},
      [this, &reply, streams = call->api.stream] {
        const auto limit = static_cast<size_t>(context_.limits.max_stream_buffer_bytes);
        if (streams && reply.num_pending_bytes() > limit) CutOff();
        Wake();
      });
  call->sink = &reply;
  call_ = call;
  service_.Submit(call);
  Watch();
  const bool written = co_await WriteReply(reply, call);
  call_.reset();  // from here on the watch does not begin again
  StopWatch();
  while (watching_) {
    const auto [ignored] = co_await wake_.async_wait(kAwait);
    (void)ignored;
  }
  co_return written && !reply.close() && !gone_;
}

namespace {

// `gone`: why the client did not get it all; empty: it did.
void LogRequest(const ApiCall& call, const Reply& reply, std::string_view gone) {
  const std::string_view error = gone.empty() ? reply.error_code() : gone;
  const Generation& first = call.generations.front();
  const LatencyAccount& account = first.account;
  const Nanos ttft = account.first_token == 0 ? 0 : account.first_token - account.received;
  int64_t prompt_tokens = 0, cached_tokens = 0, output_tokens = 0;
  Nanos ended = 0;
  for (const Generation& g : call.generations) {
    output_tokens += g.num_output_tokens;
    ended = std::max(ended, g.account.ended);
    if (g.index > 0) continue;
    prompt_tokens += static_cast<int64_t>(g.num_prompt_tokens());
    cached_tokens += g.num_cached_tokens;
  }
  observe::LogEvent(observe::LogLevel::kInfo, "request",
                    {{"id", call.request_id},
                     {"status", gone.empty() ? reply.status() : 499},
                     {"model", call.api.model},
                     {"served", first.served_model},
                     {"user", call.api.user},
                     {"metadata", call.api.metadata},
                     {"stream", call.api.stream},
                     {"group", first.group_name},
                     {"route", first.route_reason},
                     {"sequences", static_cast<int64_t>(call.generations.size())},
                     {"prompt_tokens", prompt_tokens},
                     {"cached_tokens", cached_tokens},
                     {"output_tokens", output_tokens},
                     {"ttft_us", ttft / kMicrosecond},
                     {"total_us", (ended - account.received) / kMicrosecond},
                     {"finish", reply.finish_reason()},
                     {"error", error}});
}

}  // namespace

asio::awaitable<bool> Connection::WriteReply(Reply& reply, std::shared_ptr<ApiCall> call) {
  bool good = true;
  std::string bytes;
  while (good && !reply.done()) {
    reply.Take(bytes);
    if (!bytes.empty()) {
      const bool written = co_await WriteAll(bytes);
      if (written) reply.Flushed(MonotonicNow());
      good = written && (!gone_ || reply.done());  // who leaves with all of it had an answer
    } else if (!reply.done()) {
      const auto [ignored] = co_await wake_.async_wait(kAwait);
      (void)ignored;
      good = !gone_;
    }
  }
  if (!good) {
    if (timed_out_) gone_why_ = "slow_reader";
    service_.Abandon(*call, gone_why_);
    Close();
  }
  LogRequest(*call, reply, good ? "" : gone_why_);
  if (good) service_.probe().Answered(reply.status());
  co_return good;
}

// A client's end is behind what it has sent, so all of that must be read to see it: what does not
// fit ends the reply instead of leaving it unwatched.
void Connection::FailForPipelining() {
  if (call_->ended()) return;  // nothing is made any more
  ReplySink* const sink = call_->sink;
  service_.Abandon(*call_, "pipelined_too_much");
  ApiError error = RequestError(400, "pipelined_too_much",
                                "more than one largest request came behind one that is answered");
  error.close = true;
  if (sink != nullptr) sink->OnFailed(error);
}

void Connection::Watch() {
  if (watching_) return;
  const config::RouterLimits& limits = context_.limits;
  const auto most = static_cast<size_t>(limits.max_header_bytes + limits.max_body_bytes);
  if (num_unparsed() > most) return FailForPipelining();
  watching_ = true;
  socket_.async_read_some(asio::buffer(chunk_),
                          [this, self = shared_from_this()](Error error, size_t count) {
                            watching_ = false;
                            if (!error) {
                              Append(count);
                              // Not after StopWatch: this read may have been past cancelling.
                              if (call_ != nullptr) Watch();
                            } else if (error != asio::error::operation_aborted) {
                              // The client is gone: its sequence is freed now, not when a write
                              // fails.
                              if (call_ != nullptr) service_.Abandon(*call_, "client_gone");
                              Close();
                            }
                            Wake();
                          });
}

void Connection::StopWatch() {
  Error ignored;
  if (watching_) socket_.cancel(ignored);
}

}  // namespace tandem::http
