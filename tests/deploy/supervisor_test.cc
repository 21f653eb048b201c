// `tandem up` over real processes: what restarts, what ends, and that nothing is left.
#include "deploy/cli/supervisor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <string>

#include "tests/deploy/up_fixture.h"

namespace tandem::cli {
namespace {

using testing::HasSubstr;

using Supervision = UpFixture;

TEST_F(Supervision, StartsTheRouterAndEveryRank) {
  StartUp({"--model", Path("model.gguf"), "--port", "0"});
  WaitForAll();
  const std::string common = " --config " + Path("cluster.yaml") + " --model " + Path("model.gguf");
  EXPECT_EQ(Starts("router")[0].arguments, common + " --port 0");
  EXPECT_EQ(Starts("g0.0")[0].arguments, common + " --group g0 --rank 0");
  EXPECT_EQ(Starts("g0.1")[0].arguments, common + " --group g0 --rank 1");
  EXPECT_EQ(Starts("g1.0")[0].arguments, common + " --group g1 --rank 0");
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_TRUE(AllGone());
}

TEST_F(Supervision, AKilledRouterComesBackAlone) {
  StartUp();
  WaitForAll();
  kill(LastPid("router"), SIGKILL);
  EXPECT_TRUE(WaitForStarts("router", 2));
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_EQ(CountStarts("g0.0") + CountStarts("g0.1") + CountStarts("g1.0"), 3);
  EXPECT_THAT(Log(), HasSubstr("router was killed by signal 9 (Killed)"));
}

TEST_F(Supervision, AGroupRestartsAsAWholeAndNoOther) {
  StartUp();
  WaitForAll();
  const pid_t other_rank = LastPid("g0.0");
  kill(LastPid("g0.1"), SIGKILL);  // the other rank does not notice: it is killed
  EXPECT_TRUE(WaitForStarts("g0.0", 2));
  EXPECT_TRUE(WaitForStarts("g0.1", 2));
  EXPECT_NE(LastPid("g0.0"), other_rank);
  EXPECT_NE(kill(other_rank, 0), 0);
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_EQ(CountStarts("router") + CountStarts("g1.0"), 2);
}

TEST_F(Supervision, RanksThatLeaveByThemselvesAreNotKilled) {
  StartUp();
  WaitForAll();
  const pid_t rank0 = LastPid("g0.0");
  kill(LastPid("g0.1"), SIGKILL);
  kill(rank0, SIGUSR1);
  EXPECT_TRUE(WaitForStarts("g0.0", 2));
  EXPECT_TRUE(WaitForStarts("g0.1", 2));
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_THAT(Log(), HasSubstr("worker g0/0 exited with 75"));
  EXPECT_THAT(Log(), testing::Not(HasSubstr("outlived")));
}

TEST_F(Supervision, AStoppedRankIsKilledWithItsGroup) {
  StartUp();
  WaitForAll();
  kill(LastPid("g0.1"), SIGSTOP);
  kill(LastPid("g0.0"), SIGUSR1);
  EXPECT_TRUE(WaitForStarts("g0.0", 2));
  EXPECT_TRUE(WaitForStarts("g0.1", 2));
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_TRUE(AllGone());
}

TEST_F(Supervision, AGroupWhoseRanksAreAllStoppedIsKilledAndStartedAgain) {
  StartUp();
  WaitForAll();
  // The first is continued, and its bound passes before that of the others.
  kill(LastPid("g1.0"), SIGSTOP);
  ASSERT_TRUE(WaitFor([&] { return Log().find("worker g1/0 is stopped") != std::string::npos; }));
  kill(LastPid("g1.0"), SIGCONT);
  ASSERT_TRUE(
      WaitFor([&] { return Log().find("worker g1/0 was continued") != std::string::npos; }));
  for (const char* rank : {"g0.0", "g0.1"}) kill(LastPid(rank), SIGSTOP);
  EXPECT_TRUE(WaitForStarts("g0.0", 2));
  EXPECT_TRUE(WaitForStarts("g0.1", 2));
  EXPECT_THAT(Log(), HasSubstr("has stood still for 1880 ms: killing it"));
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_EQ(CountStarts("g1.0") + CountStarts("router"), 2);
  EXPECT_TRUE(AllGone());
}

TEST_F(Supervision, AStoppedWorkerAloneIsKilledAndStartedAgain) {
  StartUp();
  WaitForAll();
  kill(LastPid("g1.0"), SIGSTOP);
  EXPECT_TRUE(WaitForStarts("g1.0", 2));
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_EQ(CountStarts("g0.0") + CountStarts("g0.1") + CountStarts("router"), 3);
}

TEST_F(Supervision, WhatFailsAgainAndAgainIsStartedAgainAndAgain) {
  Write("do.g1.0", "exit 1");
  StartUp();
  EXPECT_TRUE(WaitForStarts("g1.0", 4));
  EXPECT_THAT(Log(), HasSubstr("starting group g1 again in 0 ms"));
  EXPECT_THAT(Log(), HasSubstr("starting group g1 again in 100 ms"));
  EXPECT_THAT(Log(), HasSubstr("starting group g1 again in 200 ms"));
  EXPECT_TRUE(WaitFor([&] { return ZombiesOf(up_).empty(); }));
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_TRUE(AllGone());
}

TEST_F(Supervision, WhatFailsAgainAndAgainIsNamedWithItsLastError) {
  Write("do.g0.0", "fail 75 the group lost a rank");
  Write("do.g0.1", "fail 1 no memory for 9 blocks");
  StartUp();
  const auto says = [&](const std::string& text) {
    return WaitFor([&] { return Log().find(text) != std::string::npos; });
  };
  EXPECT_TRUE(
      says("error up: group g0 has failed 3 times in a row, now because worker g0/1 exited with 1: "
           "no memory for 9 blocks; starting group g0 again in 200 ms"));
  EXPECT_TRUE(says("group g0 has failed 4 times in a row"));
  EXPECT_THAT(Log(), HasSubstr("worker g0/0 exited with 75: the group lost a rank\n"));
  EXPECT_THAT(Log(), testing::Not(HasSubstr("failed 2 times")));
  EXPECT_EQ(Stop(SIGTERM), 0);
}

TEST_F(Supervision, TheOperatorsMistakeIsFinal) {
  Write("do.g0.1", "exit 2");
  StartUp();
  EXPECT_EQ(WaitUp(), 2);
  EXPECT_EQ(CountStarts("g0.1"), 1);
  EXPECT_TRUE(AllGone());
  EXPECT_THAT(Log(), HasSubstr("worker g0/1 exited with 2"));
}

TEST_F(Supervision, AProgramThatIsAbsentIsTheOperatorsMistake) {
  std::filesystem::remove(Path("bin/tandem-worker"));
  StartUp();
  EXPECT_EQ(WaitUp(), 2);
  EXPECT_THAT(Log(), HasSubstr("there is no program " + Path("bin/tandem-worker")));
  EXPECT_TRUE(Starts().empty());
}

TEST_F(Supervision, WorkersServeUntilTheRouterHasDrained) {
  Write("do.router", "drain");
  StartUp();
  WaitForAll();
  kill(up_, SIGTERM);
  ASSERT_TRUE(WaitForEvent("term router"));
  EXPECT_EQ(kill(LastPid("g0.0"), 0), 0);
  EXPECT_EQ(Events().size(), 5u);
  Write("drained", "");
  EXPECT_EQ(WaitUp(), 0);
  const auto events = Events();
  ASSERT_EQ(events.size(), 8u);
  EXPECT_EQ(events[4], "term router");
  EXPECT_THAT(std::vector<std::string>(events.begin() + 5, events.end()),
              testing::UnorderedElementsAre("term g0.0", "term g0.1", "term g1.0"));
  EXPECT_TRUE(AllGone());
}

TEST_F(Supervision, ASecondSignalOfTheSameKindKills) {
  Write("do.router", "drain");
  StartUp();
  WaitForAll();
  kill(up_, SIGINT);
  ASSERT_TRUE(WaitForEvent("term router"));
  kill(up_, SIGTERM);  // a script that passes on what the terminal has sent already
  // Only one that comes a second after the first counts.
  EXPECT_TRUE(WaitFor([&] {
    kill(up_, SIGINT);
    return Log().find("a second Interrupt: killing all processes") != std::string::npos;
  }));
  EXPECT_EQ(WaitUp(), 0);
  EXPECT_TRUE(AllGone());
}

TEST_F(Supervision, OneWishThatIsDeliveredTwiceKillsNothing) {
  Write("do.router", "drain");
  StartUp();
  WaitForAll();
  kill(up_, SIGTERM);
  ASSERT_TRUE(WaitForEvent("term router"));
  kill(up_, SIGTERM);
  Write("drained", "");
  EXPECT_EQ(WaitUp(), 0);
  EXPECT_THAT(Log(), testing::Not(HasSubstr("killing")));
}

TEST_F(Supervision, ABackgroundJobOfAScriptHearsAnInterrupt) {
  const auto before = signal(SIGINT, SIG_IGN);  // what a shell does there; inherited
  StartUp();
  signal(SIGINT, before);
  WaitForAll();
  EXPECT_EQ(Stop(SIGINT), 0);
  EXPECT_TRUE(AllGone());
}

TEST_F(Supervision, WhatIgnoresSigtermOrIsStoppedEndsAllTheSame) {
  Write("do.g0.0", "ignore_term");
  StartUp();
  WaitForAll();
  kill(LastPid("g1.0"), SIGSTOP);
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_TRUE(AllGone());
  EXPECT_THAT(Events(), testing::Contains("term g0.0"));
}

TEST_F(Supervision, ALostGroupIsNotStartedAgainWhileDraining) {
  Write("do.router", "drain");
  StartUp();
  WaitForAll();
  kill(up_, SIGTERM);
  ASSERT_TRUE(WaitForEvent("term router"));
  kill(LastPid("g1.0"), SIGKILL);
  ASSERT_TRUE(WaitFor([&] { return kill(LastPid("g1.0"), 0) != 0; }));
  Write("drained", "");
  EXPECT_EQ(WaitUp(), 0);
  EXPECT_EQ(CountStarts("g1.0"), 1);
}

TEST_F(Supervision, AGroupThatWasToldToLeaveStaysAwayUntilTheNextHangup) {
  StartUp();
  WaitForAll();
  kill(LastPid("g0.0"), SIGTERM);  // as `tandem drain` does; its leader tells the other rank
  kill(LastPid("g0.1"), SIGTERM);
  ASSERT_TRUE(WaitFor([&] {
    return Log().find("worker g0/1 exited with 0") != std::string::npos &&
           Log().find("worker g0/0 exited with 0") != std::string::npos;
  }));
  kill(up_, SIGHUP);
  EXPECT_TRUE(WaitForStarts("g0.0", 2));
  EXPECT_TRUE(WaitForStarts("g0.1", 2));
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_EQ(CountStarts("g0.0"), 2);
  EXPECT_THAT(Log(), HasSubstr("group g0 was told to leave; SIGHUP starts it again"));
  EXPECT_THAT(Log(), testing::Not(HasSubstr("starting group g0 again")));
}

TEST_F(Supervision, AHangupBeforeAllOfAGroupHasLeftBringsItBackToo) {
  StartUp();
  WaitForAll();
  kill(LastPid("g0.0"), SIGTERM);
  ASSERT_TRUE(
      WaitFor([&] { return Log().find("worker g0/0 exited with 0") != std::string::npos; }));
  kill(up_, SIGHUP);
  ASSERT_TRUE(WaitFor([&] { return Log().find("was read again") != std::string::npos; }));
  kill(LastPid("g0.1"), SIGTERM);
  EXPECT_TRUE(WaitForStarts("g0.0", 2));
  EXPECT_TRUE(WaitForStarts("g0.1", 2));
  EXPECT_EQ(Stop(SIGTERM), 0);
}

TEST_F(Supervision, AGroupThatWasToComeBackAndIsRemovedStaysAway) {
  StartUp();
  WaitForAll();
  kill(LastPid("g0.0"), SIGTERM);
  ASSERT_TRUE(
      WaitFor([&] { return Log().find("worker g0/0 exited with 0") != std::string::npos; }));
  kill(up_, SIGHUP);
  ASSERT_TRUE(WaitForEvent("hup router"));
  Write("cluster.yaml",
        "model: {path: model.gguf}\n"
        "groups:\n"
        "  - {name: g1, tp: 1}\n"
        "  - {name: g2, tp: 1}\n"
        "router: {listen: 127.0.0.1:0, limits: {drain_timeout: 60s}}\n");
  kill(up_, SIGHUP);
  ASSERT_TRUE(WaitForStarts("g2.0", 1));
  kill(LastPid("g0.1"), SIGTERM);
  ASSERT_TRUE(
      WaitFor([&] { return Log().find("worker g0/1 exited with 0") != std::string::npos; }));
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_EQ(CountStarts("g0.0") + CountStarts("g0.1"), 2);
}

TEST_F(Supervision, AHangupTakesOverTheClusterFile) {
  StartUp();
  WaitForAll();
  Write("cluster.yaml",
        "model: {path: model.gguf}\n"
        "groups:\n"
        "  - {name: g1, tp: 1, kv_memory: 1GiB}\n"
        "  - {name: g2, tp: 1}\n"
        "router: {listen: 127.0.0.1:0, limits: {drain_timeout: 60s}}\n");
  kill(up_, SIGHUP);
  EXPECT_TRUE(WaitForEvent("hup router"));
  EXPECT_TRUE(WaitForStarts("g2.0", 1));
  EXPECT_TRUE(WaitForEvent("term g0.0"));
  EXPECT_TRUE(WaitForEvent("term g0.1"));
  EXPECT_TRUE(WaitFor([&] { return kill(LastPid("g0.0"), 0) != 0; }));
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_EQ(CountStarts("router") + CountStarts("g0.0") + CountStarts("g1.0"), 3);
  EXPECT_THAT(Log(), HasSubstr("group g1 differs from the cluster file"));
  EXPECT_TRUE(AllGone());
}

TEST_F(Supervision, ABadClusterFileChangesNothing) {
  StartUp();
  WaitForAll();
  Write("cluster.yaml", "model: {path: model.gguf}\ngroups: [{name: g9, tp: 0}]\n");
  kill(up_, SIGHUP);
  EXPECT_TRUE(WaitFor([&] {
    return Log().find("error up: " + Path("cluster.yaml") + ":2:25: ") != std::string::npos;
  }));
  EXPECT_EQ(Stop(SIGTERM), 0);
  EXPECT_EQ(Starts().size(), 4u);
  EXPECT_THAT(Events(), testing::Not(testing::Contains("hup router")));
}

TEST_F(Supervision, AKeysFileThatTheRouterWouldRefuseChangesNothing) {
  StartUp();
  WaitForAll();
  Write("keys.txt", "");
  Write("cluster.yaml",
        "model: {path: model.gguf}\ngroups: [{name: g1}, {name: g2}]\n"
        "router: {listen: 127.0.0.1:0, api_keys_file: keys.txt}\n");
  kill(up_, SIGHUP);
  EXPECT_TRUE(WaitFor([&] {
    return Log().find("error up: " + Path("keys.txt") + ":1: no API key here") != std::string::npos;
  }));
  EXPECT_EQ(Starts().size(), 4u);
  EXPECT_THAT(Events(), testing::Not(testing::Contains("term g0.0")));
  Write("keys.txt", "secret\n");
  kill(up_, SIGHUP);
  EXPECT_TRUE(WaitForEvent("hup router"));
  EXPECT_TRUE(WaitForStarts("g2.0", 1));
  EXPECT_EQ(Stop(SIGTERM), 0);
}

TEST_F(Supervision, NothingOutlivesItsSupervisor) {
  StartUp();
  WaitForAll();
  EXPECT_EQ(Stop(SIGKILL), 128 + SIGKILL);
  for (const Started& started : Starts()) {  // they are ours now, as subreaper
    int status = 0;
    ASSERT_TRUE(WaitFor([&] { return waitpid(started.pid, &status, WNOHANG) == started.pid; }))
        << started.name << " runs on";
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << started.name;
  }
}

}  // namespace
}  // namespace tandem::cli
