#include "common/observe/log.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "common/observe/last_error.h"

namespace tandem::observe {
namespace {

TEST(Log, TextQuotesOnlyWhatNeedsIt) {
  const std::vector<LogField> fields = {{"id", "req-1"},  {"status", 200},     {"ratio", 0.5},
                                        {"stream", true}, {"model", "a b\"c"}, {"user", ""}};
  EXPECT_EQ(FormatLogText("request", fields),
            R"(request id=req-1 status=200 ratio=0.5 stream=true model="a b\"c" user="")");
}

TEST(Log, JsonEscapesAndKeepsTypes) {
  const std::vector<LogField> fields = {
      {"id", "x\"y\\z"}, {"n", int64_t{-3}}, {"inf", 1.0 / 0.0}, {"ok", false}};
  EXPECT_EQ(FormatLogJson("a\"b", fields),
            R"("message":"a\"b","id":"x\"y\\z","n":-3,"inf":null,"ok":false)");
}

TEST(Log, ALineStaysOneLine) {
  const std::vector<LogField> fields = {{"id", "a\nb\x01"}};
  EXPECT_EQ(FormatLogText("first\nsecond\r", fields), "first\\nsecond\\u000d id=a\\nb\\u0001");
  EXPECT_EQ(FormatLogJson("\x1b[31m", {}), R"("message":"\u001b[31m")");
}

TEST(Log, UnknownLevelAndFormatAreRefused) {
  EXPECT_EQ(InitLog("loud", "text", "t").code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(InitLog("info", "xml", "t").code(), StatusCode::kInvalidArgument);
}

TEST(Log, WritesFromManyThreadsAsWholeLines) {
  testing::internal::CaptureStderr();
  ASSERT_TRUE(InitLog("info", "json", "test").ok());
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([t] {
        for (int i = 0; i < 50; ++i) LogInfo("thread {} line {}", t, i);
        LogDebug("not shown {}", t);
      });
    }
  }
  const std::string out = testing::internal::GetCapturedStderr();
  ASSERT_TRUE(InitLog("info", "text", "test").ok());
  int lines = 0;
  for (size_t at = 0; at < out.size(); ++lines) {
    const size_t end = out.find('\n', at);
    ASSERT_NE(end, std::string::npos);
    const std::string line = out.substr(at, end - at);
    EXPECT_EQ(line.find("{\"time\":\""), 0u) << line;
    EXPECT_NE(line.find("\"level\":\"info\",\"process\":\"test\",\"message\":\"thread "),
              std::string::npos)
        << line;
    EXPECT_EQ(line.back(), '}') << line;
    at = end + 1;
  }
  EXPECT_EQ(lines, 200);
}

// In a process of its own that has `fd` as the starter's file.
void LogErrorsInChild(int fd) {
  const pid_t child = fork();
  if (child == 0) {
    dup2(fd, LastError::kChildFd);
    setenv("TANDEM_LAST_ERROR_FD", "3", 1);
    if (!InitLog("error", "json", "child").ok()) _exit(1);
    LogError("one that is longer than what follows");
    LogEvent(LogLevel::kError, "no\nmemory", {{"blocks", 9}});
    LogWarn("no error");
    _exit(0);
  }
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(LastError, IsWhatTheProcessLoggedLast) {
  const LastError last;
  EXPECT_EQ(last.Read(), "");
  LogErrorsInChild(last.fd());
  EXPECT_EQ(last.Read(), "no\\nmemory blocks=9");
  std::FILE* const other = std::tmpfile();  // a descriptor of that number that is not the starter's
  LogErrorsInChild(fileno(other));
  std::fseek(other, 0, SEEK_END);
  EXPECT_EQ(std::ftell(other), 0);
  std::fclose(other);
}

}  // namespace
}  // namespace tandem::observe
