# frozen_string_literal: true

# What the guard costs: a fork with it against one without, in turns in the same process, and a lease for a handle.
#
# With "a binding loaded" karafka-rdkafka is loaded from the test gems and has had a producer that is closed.

require "swarm_native"
require_relative "support"
require_relative "../spec/support/test_gems"

FORKS = Bench.times(200, 5)

# Runs in a process of its own; prints the nanoseconds of each fork, ours and bare in turns: the time that passed, and the
# thread's time on a processor, which others on a busy machine cannot add to.
CODE = <<~'RUBY'
  require "swarm_native"
  if ENV["BINDING"]
    gem ENV["BINDING"]
    require "rdkafka"
    Rdkafka::Config.new("bootstrap.servers": "127.0.0.1:1", "log_level": 0).producer.close
  end
  CLOCKS = [Process::CLOCK_MONOTONIC, Process::CLOCK_THREAD_CPUTIME_ID].freeze
  threads = Array.new(Integer(ENV["THREADS"])) { Thread.new { sleep } }
  Thread.pass until threads.all?(&:stop?)
  ours = Process.method(:_fork)
  bare = ours
  bare = bare.super_method while bare.super_method
  raise "the guard is not there" if bare == ours

  # Nothing of the compaction and collection of the boot falls into the measurement.
  GC.start
  GC.disable
  fork_with = lambda do |how|
    started = CLOCKS.map { |clock| Process.clock_gettime(clock, :nanosecond) }
    pid = how.call
    Process.exit!(0) if pid.zero?
    took = CLOCKS.map { |clock| Process.clock_gettime(clock, :nanosecond) }
    Process.wait(pid)
    took.zip(started).map { |now, before| now - before }
  end
  3.times { fork_with.call(ours) + fork_with.call(bare) }
  Integer(ENV["FORKS"]).times do |i|
    pair = i.even? ? [fork_with.call(ours), fork_with.call(bare)] : [fork_with.call(bare), fork_with.call(ours)].reverse
    puts pair.join(" ")
  end
RUBY

def samples(threads, binding)
  env = { "THREADS" => threads.to_s, "FORKS" => FORKS.to_s }
  if binding
    TestGems.ensure_installed
    env.update("BINDING" => binding, "GEM_PATH" => [TestGems::HOME, ENV["GEM_PATH"].to_s].join(":"))
  end
  IO.popen(env, [RbConfig.ruby, "-e", CODE], err: File::NULL) { |io| io.readlines.map { |line| line.split.map(&:to_i) } }
end

bindings = { "no binding loaded" => nil }
bindings["a binding loaded"] = "karafka-rdkafka" if TestGems.available?
bindings.each do |title, binding|
  [0, 10, 100].each do |threads|
    pairs = samples(threads, binding)
    raise "the process that forks has ended before its time" unless pairs.size == FORKS

    ours, ours_cpu, bare, bare_cpu = pairs.transpose
    name = "fork, #{title}, #{threads} threads"
    Bench.report("#{name}, p50", "us", Bench.percentile(ours, 50) / 1e3,
                 { "without the guard" => Bench.percentile(bare, 50) / 1e3 })
    # Each fork with the guard against the one without it right beside it, so that what the machine does otherwise is
    # in both.
    more = Bench.percentile(ours.zip(bare).map { |with, without| with - without }, 50) / 1e3
    cpu = Bench.percentile(ours_cpu.zip(bare_cpu).map { |with, without| with - without }, 50) / 1e3
    Bench.report("#{name}, on top, p50", "us", more, { "on a processor" => cpu }, goal: 20)
  end
end

# What opening a handle pays: a lease taken and given back, with the place of its maker found.
per_call = lambda do |&call|
  rounds = Bench.times(20_000, 100)
  started = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)
  rounds.times(&call)
  (Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond) - started).fdiv(rounds)
end
empty = per_call.call { nil }
leases = Array.new(Bench.times(50, 3)) do
  per_call.call { SwarmNative::ForkGuard::Lease.take("Some::Producer", "p-1", "app.rb:1").release } - empty
end
Bench.report("a lease taken and given back, p50", "us", Bench.percentile(leases, 50) / 1e3, {}, goal: 1)
places = Array.new(Bench.times(50, 3)) { per_call.call { SwarmNative::Kafka.made_at } - empty }
Bench.report("the place of a maker, p50", "us", Bench.percentile(places, 50) / 1e3)
