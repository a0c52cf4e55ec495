# frozen_string_literal: true

# How long from the kill of a ready node to the first Ruby line of its replacement, against a bare Process.fork, and
# against the shortest supervisor that there is: one that waits for its child and forks the next.
#
# A process that is killed needs about as long to go, with all its memory, as it needed to be forked. So twice a bare
# fork is what that shortest supervisor takes.

require_relative "support"

# Node 0 tells when its first line ran; the supervisor tells when it counts as ready, hence may be killed.
swarm = Bench.ruby(<<~'RUBY', "-rswarm_native")
  SwarmNative.logger = nil
  supervisor = SwarmNative::Supervisor.new(nodes: 3, stable_after: 0)
  supervisor.on(:node_ready) { |event| puts "ready" if event.node_id.zero? }
  Thread.new { supervisor.stop unless $stdin.read(1) }
  supervisor.run do |node|
    born = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    puts "#{born} #{node.pid}" if node.id.zero?
    node.ready
    node.wait
  end
RUBY

PLAIN = <<~'RUBY'
  GC.start
  GC.compact if GC.respond_to?(:compact)
  Thread.new { exit unless $stdin.read(1) }
  at_exit { Process.kill(:KILL, $pid) if $pid }
  loop do
    $pid = Process.fork do
      born = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      puts "#{born} #{Process.pid}"
      puts "ready"
      sleep
    ensure
      exit!
    end
    Process.wait($pid)
  end
RUBY
plain = Bench.ruby(PLAIN, "-rswarm_native")

# Forks once for each line that it reads, and tells both ends of the way to the child's first line.
bare = Bench.ruby(<<~'RUBY', "-rswarm_native")
  GC.start
  GC.compact if GC.respond_to?(:compact)
  while $stdin.gets
    asked = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    pid = Process.fork do
      born = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      puts born - asked
      exit!
    end
    Process.wait(pid)
  end
RUBY

# Kills the process that has told of itself last, and returns the milliseconds until the next one does.
def self.replace(supervisor, pids)
  pids[supervisor] ||= Bench.line(supervisor).split.last.to_i.tap { Bench.line(supervisor) }
  killed = Bench.now
  Process.kill(:KILL, pids[supervisor])
  born, pid = Bench.line(supervisor).split
  pids[supervisor] = pid.to_i
  Bench.line(supervisor)
  (born.to_f - killed) * 1_000
end

samples = { "ours" => [], "bare Process.fork" => [], "Process.wait and Process.fork" => [] }
pids = {}
begin
  Bench.times(1_000, 5).times do
    samples["ours"] << replace(swarm, pids)
    bare.puts
    samples["bare Process.fork"] << (Bench.line(bare).to_f * 1_000)
    samples["Process.wait and Process.fork"] << replace(plain, pids)
  end
ensure
  [swarm, plain, bare].each(&:close_write)
  [swarm, plain, bare].each(&:close)
end
Bench.report_samples("replace", "ms", samples.delete("ours"), samples,
                     { 50 => { ratio_goal: 2 }, 99 => { ratio_goal: 4 } })
