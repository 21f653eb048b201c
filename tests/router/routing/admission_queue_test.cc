#include "router/routing/admission_queue.h"

#include <gtest/gtest.h>

#include <limits>

namespace tandem::routing {
namespace {

constexpr double kAny = std::numeric_limits<double>::infinity();

WaitingRequest Request(RequestId id, uint64_t client, int32_t tokens, int32_t priority = 0,
                       Nanos queued_at = 0, Nanos deadline = 0) {
  WaitingRequest request;
  request.id = id;
  request.client = client;
  request.own_tokens = tokens;
  request.priority = priority;
  request.queued_at = queued_at;
  request.deadline = deadline;
  return request;
}

RequestId TakeNext(AdmissionQueue& queue, FairShare& shares, Nanos now = kSecond) {
  const auto next = queue.Next(shares, kAny, now);
  if (!next) return 0;
  const WaitingRequest request = queue.Take(*next);
  shares.Charge(request.client, request.own_tokens, now);
  shares.Served(request.own_tokens);
  return request.id;
}

TEST(AdmissionQueue, ClassThenShareThenLeastTokens) {
  AdmissionQueue queue;
  FairShare shares;
  shares.Charge(1, 10, kSecond);
  shares.Charge(2, 1000, kSecond);  // has a lead
  queue.Push(Request(1, 1, 500));
  queue.Push(Request(2, 1, 100));
  queue.Push(Request(3, 2, 10));
  queue.Push(Request(4, 2, 900, /*priority=*/1));
  EXPECT_EQ(TakeNext(queue, shares), 4u);
  EXPECT_EQ(TakeNext(queue, shares), 2u);
  EXPECT_EQ(TakeNext(queue, shares), 1u);
  EXPECT_EQ(TakeNext(queue, shares), 3u);
  EXPECT_EQ(TakeNext(queue, shares), 0u);
}

TEST(AdmissionQueue, AgeTurnsTheOrderAround) {
  AdmissionQueue queue;
  FairShare shares;
  queue.Push(Request(1, 1, 5000, 0, 0));
  queue.Push(Request(2, 1, 100, 0, 30 * kSecond));
  EXPECT_EQ(TakeNext(queue, shares, 30 * kSecond), 1u);
}

TEST(AdmissionQueue, TwoThatFloodAreServedInTurn) {
  AdmissionQueue queue;
  FairShare shares;
  RequestId id = 0;
  for (int i = 0; i < 50; ++i) queue.Push(Request(++id, 1, 100));
  for (int i = 0; i < 50; ++i) queue.Push(Request(++id, 2, 200));
  int64_t tokens[3] = {};
  for (int i = 0; i < 60; ++i) {
    const auto next = queue.Next(shares, kAny, kSecond);
    const WaitingRequest request = queue.Take(*next);
    shares.Charge(request.client, request.own_tokens, kSecond + i * 50 * kMillisecond);
    shares.Served(request.own_tokens);
    tokens[request.client] += request.own_tokens;
  }
  EXPECT_NEAR(static_cast<double>(tokens[1]), static_cast<double>(tokens[2]), 800);
}

TEST(AdmissionQueue, CountsWhatIsServedBefore) {
  AdmissionQueue queue;
  for (int i = 0; i < 10; ++i) queue.Push(Request(static_cast<RequestId>(i), 1, 100));
  queue.Push(Request(20, 2, 50));
  queue.Push(Request(21, 3, 70, /*priority=*/1));
  EXPECT_EQ(queue.TokensAhead(9, 0, 200), 70 + 200 + 50) << "not all that one client has queued";
  EXPECT_EQ(queue.TokensAhead(1, 0, 200), 70 + 1000 + 50);
  EXPECT_EQ(queue.TokensAhead(9, 1, 200), 70);
}

TEST(AdmissionQueue, KnowsTheNextDeadline) {
  AdmissionQueue queue;
  EXPECT_EQ(queue.next_deadline(), 0);
  queue.Push(Request(1, 1, 10, 0, 0, 50));
  queue.Push(Request(2, 1, 10, 0, 0, 30));
  queue.Push(Request(3, 1, 10));
  EXPECT_EQ(queue.next_deadline(), 30);
  EXPECT_FALSE(queue.FindExpired(29));
  ASSERT_TRUE(queue.FindExpired(30));
  EXPECT_EQ(queue.Take(*queue.FindExpired(30)).id, 2u);
  EXPECT_EQ(queue.next_deadline(), 50);
  EXPECT_TRUE(queue.Remove(1, 0));
  EXPECT_FALSE(queue.Remove(1, 0));
  EXPECT_EQ(queue.next_deadline(), 0);
  EXPECT_EQ(queue.size(), 1);
}

void Use(FairShare& shares, uint64_t client, int32_t tokens, Nanos now) {
  shares.Join(client, now);
  shares.Charge(client, tokens, now);
  shares.Served(tokens);
}

TEST(FairShare, OneThatIsAloneHasNoLead) {
  FairShare shares;
  for (int i = 0; i < 100; ++i) shares.Charge(1, 1000, i * kMillisecond);
  EXPECT_EQ(shares.Lead(1), 0);
  EXPECT_EQ(shares.Lead(2), 0);
}

TEST(FairShare, WhatIsSentLeadsUntilItIsServed) {
  FairShare shares;
  Use(shares, 2, 10, kSecond);
  shares.Join(1, kSecond);
  shares.Charge(1, 1000, kSecond);
  EXPECT_NEAR(shares.Lead(1), 1000, 1);
  shares.Served(1000);
  EXPECT_LT(shares.Lead(1), 100);
}

TEST(FairShare, OnlyOneThatTakesMoreThanAShareGetsALead) {
  FairShare shares;
  Nanos now = kSecond;
  for (int i = 0; i < 1000; ++i) {
    now += 10 * kMillisecond;
    Use(shares, 9, 800, now);
    Use(shares, 1 + static_cast<uint64_t>(i % 4), 300, now);
  }
  EXPECT_GT(shares.Lead(9), 50'000);
  for (uint64_t client = 1; client <= 4; ++client) EXPECT_LT(shares.Lead(client), 1000) << client;
  // Silent for a while, it is like the others again.
  for (int i = 0; i < 4000; ++i) {
    now += 10 * kMillisecond;
    Use(shares, 1 + static_cast<uint64_t>(i % 4), 300, now);
  }
  EXPECT_EQ(shares.Lead(9), 0);
  EXPECT_EQ(shares.num_clients(), 4);
}

TEST(FairShare, AWaitingClientKeepsItsPlace) {
  FairShare shares;
  Use(shares, 1, 100, kSecond);
  shares.Join(2, kSecond);
  const double place = shares.Start(2);
  for (int i = 0; i < 10; ++i) Use(shares, 1, 100, kSecond);
  EXPECT_EQ(shares.Start(2), place);
  EXPECT_LT(shares.Start(2), shares.Start(1));
}

}  // namespace
}  // namespace tandem::routing
