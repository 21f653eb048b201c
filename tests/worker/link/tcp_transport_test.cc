// What is peculiar to ranks on several hosts: who else may connect, and peers that vanish.
// rank_link_test.cc has what they share with those of one machine.
#include "worker/link/tcp_transport.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <thread>
#include <vector>

#include "tests/support/fork_rank.h"
#include "tests/support/group_in_a_folder.h"
#include "worker/link/rank_link.h"
#include "worker/link/rank_messages.h"
#include "worker/link/seq_packet.h"
#include "worker/link/tcp_socket.h"

namespace tandem::link {
namespace {

using testing::ForkedRank;
using ::testing::HasSubstr;
using testing::kSmallLimits;
using testing::RankOptions;
using testing::ShardWith;
using testing::TakePlans;
using testing::TempFolder;

UniqueFd Dial(int port) {
  auto socket = ConnectTcp("127.0.0.1", port, -1, 60'000);
  TANDEM_CHECK(socket.ok()) << Message(socket.status());
  return std::move(socket).value();
}

void Write(const UniqueFd& socket, std::string_view bytes) {
  ASSERT_EQ(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
}

// What the other end sends until it closes.
std::string ReadAll(const UniqueFd& socket) {
  std::string all;
  char part[4096];
  while (WaitReadable(socket.get(), -1, 60'000).ok()) {
    const ssize_t n = ::recv(socket.get(), part, sizeof(part), 0);
    if (n <= 0) break;
    all.append(part, static_cast<size_t>(n));
  }
  return all;
}

// A frame as tcp_channel.cc makes them.
std::string Frame(uint32_t type, std::span<const std::byte> bytes) {
  const uint32_t header[] = {0x464d4454, type, static_cast<uint32_t>(bytes.size())};
  return std::string(reinterpret_cast<const char*>(header), sizeof(header)) +
         std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

struct Meeting {
  TempFolder folder;
  const int port = testing::FreePort();
  RankLinkOptions Options(int rank) const { return RankOptions(folder.path(), rank, 2, port); }
};

TEST(TcpTransport, WhoeverIsNoRankIsRefusedAndHoldsUpNobody) {
  Meeting meeting;
  int go[2];
  ASSERT_EQ(::pipe(go), 0);
  ForkedRank rank([&] {
    char byte;
    return ::read(go[0], &byte, 1) == 1 ? TakePlans(meeting.Options(1)) : 9;
  });
  auto leader = std::move(RankLink::Open(meeting.Options(0))).value();
  std::thread waits([&] { EXPECT_TRUE(leader->WaitForRanks().ok()); });
  const UniqueFd silent = Dial(meeting.port), half = Dial(meeting.port);
  Write(half, Frame(1, BytesOf(JoinMessage{})).substr(0, 100));
  JoinMessage other_build;
  other_build.build = "elsewhere";
  other_build.rank = 1;
  other_build.tp = 2;
  const std::byte word[4] = {};
  const std::string nonsense[] = {
      "GET / HTTP/1.1\r\n\r\n",
      Frame(1, word),                                     // a message, but too short
      Frame(2, word),                                     // a state of somebody unknown
      Frame(9, word),                                     // of no type
      std::string("TDMF\x01\0\0\0\xff\xff\xff\x7f", 12),  // of two gigabytes
      Frame(1, BytesOf(other_build)),                     // of another build: gets an answer
  };
  for (const std::string& bytes : nonsense) {
    const UniqueFd socket = Dial(meeting.port);
    Write(socket, bytes);
    const std::string answer = ReadAll(socket);
    EXPECT_EQ(answer.empty(), bytes != nonsense[5]) << answer.size();
    if (!answer.empty()) {
      EXPECT_THAT(answer, HasSubstr("install one build on all ranks"));
    }
  }
  EXPECT_EQ(::write(go[1], "x", 1), 1);
  waits.join();  // although two connections still say nothing
  ASSERT_TRUE(leader->Agree(ShardWith(1), kSmallLimits).ok());
  leader->ring().Shutdown();
  EXPECT_EQ(rank.Wait(), 0);
  ::close(go[0]);
  ::close(go[1]);
}

TEST(TcpTransport, ARankThatSendsNonsenseIsCutOff) {
  Meeting meeting;
  auto leader = std::move(RankLink::Open(meeting.Options(0))).value();
  std::thread waits([&] { EXPECT_TRUE(leader->WaitForRanks().ok()); });
  const UniqueFd socket = Dial(meeting.port);
  JoinMessage join;
  join.rank = 1;
  join.tp = 2;
  join.build = "test-1";
  join.settings = "f32/f32";
  Write(socket, Frame(1, BytesOf(join)));
  waits.join();
  EXPECT_EQ(leader->PollPeers(0, -1), -1);
  const std::byte word[4] = {};
  Write(socket, Frame(2, word));
  EXPECT_EQ(leader->PollPeers(60 * kSecond, -1), 1);
  EXPECT_TRUE(leader->LivePeers().empty());
}

TEST(TcpTransport, ARankWhoseLeaderGoesWhileItWaitsSaysSo) {
  Meeting meeting;
  ForkedRank rank([&] {
    auto link = RankLink::Open(meeting.Options(1));
    if (!link.ok()) return 1;
    const auto all = (*link)->ExchangeAddresses("here");
    return all.status().code() == StatusCode::kUnavailable ? 7 : 8;
  });
  {
    auto leader = std::move(RankLink::Open(meeting.Options(0))).value();
    ASSERT_TRUE(leader->WaitForRanks().ok());
  }
  EXPECT_EQ(rank.Wait(), 7);
}

TEST(TcpTransport, APlanThatIsLongerThanTheSocketTakesArrivesWhole) {
  constexpr PlanLimits kLarge = {
      .max_rows = 8, .max_step_tokens = 1 << 20, .max_blocks_per_seq = 1, .block_size = 16};
  Meeting meeting;
  ForkedRank rank([&] { return TakePlans(meeting.Options(1)); });
  auto leader = std::move(RankLink::Open(meeting.Options(0))).value();
  ASSERT_TRUE(leader->WaitForRanks().ok());
  ASSERT_TRUE(leader->Agree(ShardWith(1), kLarge).ok());
  for (uint64_t step = 1; step <= 10; ++step) {
    const std::vector<TokenId> tokens(1 << 20, static_cast<TokenId>(step));
    StepPlan plan;
    plan.step = step;
    plan.tokens = tokens;
    ASSERT_TRUE(leader->Publish(plan, kSecond));
    StepPlan own;
    ASSERT_EQ(leader->ring().WaitNext(0, own), PlanRing::Next::kPlan);
    leader->ring().Done(0);
  }
  leader->ring().Shutdown();
  EXPECT_EQ(rank.Wait(), 0);
}

TEST(TcpTransport, AnAddressThatIsNotOfThisMachineIsAMistake) {
  TempFolder folder;
  auto options = RankOptions(folder.path(), 0, 2, 8200);
  options.host = "192.0.2.1";  // TEST-NET-1
  const auto link = RankLink::Open(options);
  EXPECT_EQ(link.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(link.status())), HasSubstr("192.0.2.1:8200"));
}

}  // namespace
}  // namespace tandem::link
