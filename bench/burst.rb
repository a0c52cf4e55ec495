# frozen_string_literal: true

# All nodes killed at once, until all are back, against as many bare forks one after the other.

require_relative "support"

# Each node is a process: where memory is short, fewer of them. 4 MB each is what a small node has of its own.
AVAILABLE = File.read("/proc/meminfo")[/^MemAvailable:\s+(\d+)/, 1].to_i * 1024
NODES = [Bench.times(1_000, 20), AVAILABLE / 2 / (4 << 20)].min
warn "  burst: #{NODES} nodes, since memory is short for 1000" if NODES < Bench.times(1_000, 20)

swarm = Bench.ruby(<<~RUBY, "-rswarm_native")
  SwarmNative.logger = nil
  swarm = SwarmNative::Supervisor.new(nodes: #{NODES}, stable_after: 0, report_interval: 3600, report_timeout: nil)
  ready = 0
  swarm.on(:node_ready) { puts "all ready" if ((ready += 1) % #{NODES}).zero? }
  Thread.new do
    while $stdin.gets
      now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      swarm.signal(:KILL)
      puts now
    end
    swarm.stop
  end
  swarm.run { |node| node.ready; node.wait until node.stopping? }
RUBY

bare = Bench.ruby(<<~RUBY, "-rswarm_native")
  GC.start
  GC.compact if GC.respond_to?(:compact)
  while $stdin.gets
    from, to = IO.pipe
    started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    pids = Array.new(#{NODES}) do
      Process.fork do
        to.write(".")
        sleep
      end
    end
    from.read(#{NODES})
    puts Process.clock_gettime(Process::CLOCK_MONOTONIC) - started
    pids.each { |pid| Process.kill(:KILL, pid) }
    pids.each { |pid| Process.wait(pid) }
    [from, to].each(&:close)
  end
RUBY

ours = []
forks = []
begin
  Bench.line(swarm)
  Bench.times(3, 1).times do
    swarm.puts
    killed = Bench.line(swarm).to_f
    Bench.line(swarm)
    ours << (Bench.now - killed)
    bare.puts
    forks << Bench.line(bare).to_f
  end
ensure
  [swarm, bare].each(&:close_write)
  [swarm, bare].each(&:close)
end
Bench.report("burst of #{NODES}, median", "s", Bench.percentile(ours, 50),
             { "#{NODES} bare forks" => Bench.percentile(forks, 50) }, ratio_goal: 1.2)
