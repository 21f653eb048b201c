// A server on a free port with fake groups behind it, and the tiny model's tokenizer.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/gguf/gguf_file.h"
#include "common/tokenizer/tokenizer.h"
#include "router/http/server.h"
#include "router/text/chat_template.h"
#include "tests/router/http/fake_groups.h"
#include "tests/router/http/raw_client.h"
#include "tests/support/tiny_model.h"

namespace tandem::http {

class ServerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::string bytes = testing_model();
    auto file = gguf::File::Parse(std::as_bytes(std::span(bytes)), "tiny");
    ASSERT_TRUE(file.ok()) << file.status();
    auto tokenizer = text::Tokenizer::FromGguf(**file);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = std::move(*tokenizer);
    auto chat = text::ChatTemplate::FromGguf(**file);
    ASSERT_TRUE(chat.ok()) << chat.status();
    template_ = std::make_unique<text::ChatTemplate>(*std::move(chat));
  }
  static void TearDownTestSuite() {
    tokenizer_.reset();
    template_.reset();
  }

  ~ServerTest() override { Stop(); }

  // Once, first. One model, "tiny", unless the test says more.
  void Start(ApiKeys keys = {}) {
    options_.port = 0;
    settings_.keys = std::move(keys);
    if (service_options_.models.empty()) AddModel("tiny");
    auto server = Server::Open(options_, settings_, service_options_, metrics_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    groups_ = std::make_unique<FakeGroups>(server_->service());
    server_->service().Connect(groups_.get());
    thread_ = std::jthread([this] { server_->Run(); });
  }
  void AddModel(const std::string& name) {
    service_options_.models.push_back({name, "fp-" + name, tokenizer_.get(), template_.get()});
  }
  void StartWithGroup() {
    Start();
    group_ = groups_->Up("g0");
  }
  void Stop() {
    if (!thread_.joinable()) return;
    server_->Stop();
    thread_.join();
    EXPECT_EQ(server_->service().num_active(), 0);
    server_->service().CheckInvariants();
  }
  // Until Run() returns on its own.
  void Join() { thread_.join(); }

  int port() const { return server_->port(); }
  std::vector<TokenId> Tokens(std::string_view text) const { return tokenizer_->Encode(text); }
  TokenId end_id() const { return tokenizer_->end_ids().front(); }

  static std::string Chat(std::string_view content, std::string_view more = {}) {
    return std::string(R"({"model":"tiny","messages":[{"role":"user","content":")") +
           std::string(content) + "\"}]" + std::string(more) + "}";
  }
  static std::string ChatPost(std::string_view content, std::string_view more = {},
                              std::string_view headers = {}) {
    return RawClient::Post("/v1/chat/completions", Chat(content, more), headers);
  }

  static std::string testing_model() { return tandem::testing::MakeTinyModel(); }

  static inline std::unique_ptr<const text::Tokenizer> tokenizer_;
  static inline std::unique_ptr<text::ChatTemplate> template_;
  ServerOptions options_;
  ServerSettings settings_;
  ServiceOptions service_options_;
  observe::Metrics metrics_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<FakeGroups> groups_;
  GroupId group_;
  std::jthread thread_;
};

}  // namespace tandem::http
