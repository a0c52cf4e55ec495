# frozen_string_literal: true

# What the guard costs a fork, and a handle.
#
# Two processes take turns, children of one that has loaded everything: in one of them the guard's hooks are put in place,
# in the other nothing is. So they differ by that alone; two processes that were started each by itself fork up to a
# quarter of a millisecond apart, for where their memory happens to lie. A fork takes a millisecond, and as much more or
# less from one to the next, so the guard's own part is measured by itself too: the hook over a `_fork` that does not fork.
#
# With "a binding loaded" karafka-rdkafka is loaded from the test gems and has had a producer that is closed.

require "swarm_native"
require_relative "support"
require_relative "../spec/support/test_gems"

FORKS = Bench.times(200, 5)
ROUNDS = Bench.times(5, 1)

# For each line that it reads, "with" or "without" and what to do, the nanoseconds that it took: those that passed, and
# those of the thread on a processor, which others on a busy machine cannot add to. "fork" is one fork, "hook" a hundred
# that do not happen.
CODE = <<~'RUBY'
  NOT_FORKED = Module.new do
    def _fork
      $no_fork ? Process.pid : super
    end
  end
  Process.singleton_class.prepend(NOT_FORKED)
  # What the guard puts in place when it is loaded is kept for one of the children.
  HOOKED = [Process.singleton_class, IO.singleton_class].freeze
  hooks = []
  HOOKED.each { |hooked| hooked.define_singleton_method(:prepend) { |hook| hooks << [self, hook] } }
  require "swarm_native/library"
  core = SwarmNative::ForkGuard::Core
  watch = core.method(:watch).unbind
  core.define_singleton_method(:watch) {}
  require "swarm_native"
  HOOKED.each { |hooked| hooked.singleton_class.remove_method(:prepend) }
  put_in_place = lambda do
    watch.bind_call(core)
    hooks.each { |hooked, hook| hooked.prepend(hook) }
  end

  if ENV["BINDING"]
    gem ENV["BINDING"]
    require "rdkafka"
    Rdkafka::Config.new("bootstrap.servers": "127.0.0.1:1", "log_level": 0).producer.close
  end
  CLOCKS = [Process::CLOCK_MONOTONIC, Process::CLOCK_THREAD_CPUTIME_ID].freeze

  def serve(input, output)
    threads = Array.new(Integer(ENV["THREADS"])) { Thread.new { sleep } }
    Thread.pass until threads.all?(&:stop?)
    # Nothing of the compaction and collection of the boot falls into the measurement.
    GC.start
    GC.disable
    now = -> { CLOCKS.map { |clock| Process.clock_gettime(clock, :nanosecond) } }
    while (line = input.gets)
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
      output.puts took.join(" ")
    end
  end

  children = %w[with without].to_h do |name|
    input, to_child = IO.pipe
    from_child, output = IO.pipe
    [to_child, output].each { |pipe| pipe.sync = true }
    fork do
      [to_child, from_child].each(&:close)
      put_in_place.call if name == "with"
      hooked = Process.singleton_class.ancestors.include?(SwarmNative::ForkGuard::ProcessHook)
      raise "the guard is in the wrong place" unless hooked == (name == "with")

      serve(input, output)
      exit!
    end
    [input, output].each(&:close)
    [name, [to_child, from_child]]
  end
  while (line = $stdin.gets)
    name, what = line.split
    to_child, from_child = children.fetch(name)
    to_child.puts what
    puts from_child.gets
  end
RUBY

def start(threads, binding)
  env = { "THREADS" => threads.to_s }
  env.update("BINDING" => binding, "GEM_PATH" => [TestGems::HOME, ENV["GEM_PATH"].to_s].join(":")) if binding
  options = ["-I", Gem::Specification.find_by_name("karafka_swarm").full_require_paths.join(":")]
  IO.popen([env, RbConfig.ruby, *options, "-e", "$stdout.sync = true\n#{CODE}"], "r+")
end

def once(process, side, what)
  process.puts("#{side} #{what}")
  Bench.line(process).split.map(&:to_i)
end

# The median of pairs of forks, one with and one without right beside it, so that what the machine does otherwise is in
# both; and the medians of each side.
def round(process)
  pairs = Array.new(FORKS) do |i|
    order = i.even? ? %w[with without] : %w[without with]
    order.to_h { |side| [side, once(process, side, "fork")] }.values_at("with", "without")
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
    process = start(threads, binding)
    3.times { %w[with without].each { |side| once(process, side, "fork") } }
    hook = Array.new(FORKS) { (once(process, "with", "hook")[0] - once(process, "without", "hook")[0]) / 100e3 }
    more, cpu, ours, bare = Array.new(ROUNDS) { round(process) }.transpose.map { |each| Bench.percentile(each, 50) }
    name = "fork, #{title}, #{threads} threads"
    Bench.report("#{name}, the guard's own part, p50", "us", Bench.percentile(hook, 50), {}, goal: 20)
    Bench.report("#{name}, on top, p50", "us", more,
                 { "without the guard" => bare, "with it" => ours, "on top on a processor" => cpu }, goal: 20)
  ensure
    process&.close_write
    process&.close
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
