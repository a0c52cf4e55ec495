# frozen_string_literal: true

# What the guard costs a fork, and a handle.
#
# Two processes that differ by the guard alone take turns: both have the gem's library loaded (a larger process forks more
# slowly, whatever is in it), and one has no hook in place. A fork takes a millisecond, and as much more or less from one
# to the next, so the guard's own part is measured by itself too: the same hook over a `_fork` that does not fork.
#
# With "a binding loaded" karafka-rdkafka is loaded from the test gems and has had a producer that is closed.

require "swarm_native"
require_relative "support"
require_relative "../spec/support/test_gems"

FORKS = Bench.times(200, 5)
ROUNDS = Bench.times(5, 1)

# For each line that it reads, one fork, and the nanoseconds that it took: those that passed, and those of the thread on a
# processor, which others on a busy machine cannot add to. "hook" stands for a hundred forks that do not happen.
CODE = <<~'RUBY'
  NOT_FORKED = Module.new do
    def _fork
      $no_fork ? Process.pid : super
    end
  end
  Process.singleton_class.prepend(NOT_FORKED)
  require "swarm_native/version"
  require "swarm_native/errors"
  require "swarm_native/library"
  require "swarm_native/fork_guard" if ENV["GUARD"] == "with"
  if ENV["BINDING"]
    gem ENV["BINDING"]
    require "rdkafka"
    Rdkafka::Config.new("bootstrap.servers": "127.0.0.1:1", "log_level": 0).producer.close
  end
  CLOCKS = [Process::CLOCK_MONOTONIC, Process::CLOCK_THREAD_CPUTIME_ID].freeze
  threads = Array.new(Integer(ENV["THREADS"])) { Thread.new { sleep } }
  Thread.pass until threads.all?(&:stop?)
  # Nothing of the compaction and collection of the boot falls into the measurement.
  GC.start
  GC.disable
  now = -> { CLOCKS.map { |clock| Process.clock_gettime(clock, :nanosecond) } }
  puts "ready"
  while (line = $stdin.gets)
    $no_fork = line == "hook\n"
    started = now.call
    if $no_fork
      100.times { Process._fork }
    else
      pid = Process._fork
      Process.exit!(0) if pid.zero?
    end
    took = now.call.zip(started).map { |after, before| after - before }
    Process.wait(pid) unless $no_fork
    puts took.join(" ")
  end
RUBY

def environment(threads, binding, guard)
  env = { "THREADS" => threads.to_s, "GUARD" => guard }
  env.update("BINDING" => binding, "GEM_PATH" => [TestGems::HOME, ENV["GEM_PATH"].to_s].join(":")) if binding
  env
end

def start(threads, binding, guard)
  options = ["-I", Gem::Specification.find_by_name("karafka_swarm").full_require_paths.join(":")]
  IO.popen([environment(threads, binding, guard), RbConfig.ruby, *options, "-e", "$stdout.sync = true\n#{CODE}"], "r+")
    .tap { |process| Bench.line(process) }
end

def once(process, what)
  process.puts(what)
  Bench.line(process).split.map(&:to_i)
end

# The median of pairs of forks, one with and one without right beside it, so that what the machine does otherwise is in
# both; and the medians of each side.
def round(with, without)
  pairs = Array.new(FORKS) do |i|
    i.even? ? [once(with, "fork"), once(without, "fork")] : [once(without, "fork"), once(with, "fork")].reverse
  end
  median = ->(clock, side) { Bench.percentile(pairs.map { |pair| side.call(*pair.map { |took| took[clock] }) }, 50) / 1e3 }
  [median.call(0, ->(ours, bare) { ours - bare }), median.call(1, ->(ours, bare) { ours - bare }),
   median.call(0, ->(ours, _) { ours }), median.call(0, ->(_, bare) { bare })]
end

bindings = { "no binding loaded" => nil }
bindings["a binding loaded"] = "karafka-rdkafka" if TestGems.available?
TestGems.ensure_installed if TestGems.available?
bindings.each do |title, binding|
  [0, 10, 100].each do |threads|
    with, without = %w[with without].map { |guard| start(threads, binding, guard) }
    3.times { [with, without].each { |process| once(process, "fork") } }
    hook = Array.new(FORKS) { (once(with, "hook")[0] - once(without, "hook")[0]) / 100e3 }
    more, cpu, ours, bare = Array.new(ROUNDS) { round(with, without) }.transpose.map { |each| Bench.percentile(each, 50) }
    name = "fork, #{title}, #{threads} threads"
    Bench.report("#{name}, the guard's own part, p50", "us", Bench.percentile(hook, 50), {}, goal: 20)
    Bench.report("#{name}, on top, p50", "us", more, { "on a processor" => cpu, "with" => ours, "without" => bare }, goal: 20)
  ensure
    [with, without].compact.each(&:close_write)
    [with, without].compact.each(&:close)
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
