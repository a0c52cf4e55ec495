# frozen_string_literal: true

# Ours beside what others use, in one run: a worker killed, a worker frozen, the master killed, the master idle, and what
# the master weighs. Every program does the same nothing: its workers write a line when they begin, and sleep.
#
# Puma and Pitchfork come from the folder of test gems, s6 and gunicorn from Debian. What is missing is named and left
# out of the table.

require "fileutils"
require "tmpdir"
require_relative "support"
require_relative "../spec/support/test_gems"

module Peers
  WORKERS = 2
  RUBY_LINE = %q(File.write(ENV.fetch("PEER_LOG"), "#{Process.pid} #{Process.clock_gettime(Process::CLOCK_MONOTONIC)}\n", mode: "a"))

  # How a program is started, and how long it waits until it takes a frozen worker for hung (nil: it never does).
  Peer = Struct.new(:name, :command, :files, :hangs_after, :needs, keyword_init: true) do
    def missing
      needs unless system("command -v #{needs} >/dev/null 2>&1") || Gem::Specification.any? { |spec| spec.name == needs }
    end
  end

  OURS = Peer.new(
    name: "karafka_swarm", hangs_after: 2, needs: "ruby",
    command: [RbConfig.ruby, "-rswarm_native", "swarm.rb"],
    files: { "swarm.rb" => <<~RUBY }
      SwarmNative.logger = nil
      swarm = SwarmNative::Supervisor.new(nodes: #{WORKERS}, stable_after: 0, report_interval: 0.5, report_timeout: 2)
      swarm.run { |node| #{RUBY_LINE}; node.ready; node.wait until node.stopping? }
    RUBY
  )

  OTHERS = [
    Peer.new(
      name: "Puma", hangs_after: 2, needs: "puma",
      command: [RbConfig.ruby, "-S", "puma", "-C", "puma.rb", "app.ru"],
      files: { "app.ru" => "run ->(_env) { [200, {}, []] }\n", "puma.rb" => <<~RUBY }
        workers #{WORKERS}
        threads 1, 1
        bind "unix://" + File.expand_path("puma.sock")
        preload_app!
        worker_check_interval 1
        worker_timeout 2
        silence_single_worker_warning
        public_send(respond_to?(:before_worker_boot) ? :before_worker_boot : :on_worker_boot) { #{RUBY_LINE} }
      RUBY
    ),
    Peer.new(
      name: "Pitchfork", hangs_after: 2, needs: "pitchfork",
      command: [RbConfig.ruby, "-S", "pitchfork", "-c", "pitchfork.rb", "app.ru"],
      files: { "app.ru" => "run ->(_env) { [200, {}, []] }\n", "pitchfork.rb" => <<~RUBY }
        worker_processes #{WORKERS}
        listen File.expand_path("pitchfork.sock")
        timeout 2
        after_worker_ready { |_server, _worker| #{RUBY_LINE} }
      RUBY
    ),
    Peer.new(
      name: "s6-supervise", hangs_after: nil, needs: "s6-supervise",
      command: ["s6-supervise", "service"],
      files: { "service/run" => "#!/bin/sh\nexec #{RbConfig.ruby} -e '#{RUBY_LINE}; sleep'\n" }
    ),
    Peer.new(
      name: "gunicorn", hangs_after: 2, needs: "gunicorn",
      command: ["gunicorn", "-c", "conf.py", "app:app"],
      files: { "app.py" => "def app(environ, start):\n    start('200 OK', [])\n    return []\n", "conf.py" => <<~PYTHON }
        import os, time
        workers = #{WORKERS}
        bind = "unix:gunicorn.sock"
        timeout = 2
        def post_fork(server, worker):
            with open(os.environ["PEER_LOG"], "a") as log:
                log.write("%d %f\\n" % (os.getpid(), time.monotonic()))
      PYTHON
    )
  ].freeze

  # A peer that runs.
  class Running
    def initialize(peer, folder)
      @peer = peer
      @log = File.join(folder, "log")
      peer.files.each do |name, text|
        path = File.join(folder, name)
        FileUtils.mkdir_p(File.dirname(path))
        File.write(path, text)
        File.chmod(0o755, path)
      end
      FileUtils.touch(@log)
      @pid = Process.spawn({ "PEER_LOG" => @log }, *peer.command, chdir: folder, pgroup: true, in: File::NULL,
                                                                  out: File.join(folder, "out"), err: File.join(folder, "out"))
      @expected = peer.name == "s6-supervise" ? 1 : WORKERS
      wait("its workers") { lines.size >= @expected }
    end

    def lines = File.readlines(@log).map(&:split)

    # Milliseconds from the signal to the first line of the replacement.
    def replace(signal)
      known = lines.map(&:first)
      victim = known.reverse.find { |pid| Bench.alive?(pid) }
      struck = Bench.now
      Process.kill(signal, victim.to_i)
      wait("a replacement") { (lines.map(&:first) - known).any? }
      (lines.find { |pid, _| !known.include?(pid) }[1].to_f - struck) * 1_000
    end

    # Milliseconds from the end of the master to the end of its last worker; nil: they were still there after 5 s.
    def orphan
      workers = lines.map(&:first).select { |pid| Bench.alive?(pid) }
      Process.kill(:KILL, @pid)
      killed = Bench.now
      sleep 0.001 while workers.any? { |pid| Bench.alive?(pid) } && Bench.now - killed < 15
      gone = Bench.now - killed
      gone < 15 ? gone * 1_000 : nil
    end

    # Context switches of all threads of the master in so many seconds.
    def switches(seconds)
      before = count_switches
      sleep seconds
      count_switches - before
    end

    def pss = File.read("/proc/#{@pid}/smaps_rollup")[/^Pss:\s+(\d+)/, 1].to_i / 1024.0

    def stop
      Process.kill(:KILL, -@pid)
      lines.each { |pid, _| Process.kill(:KILL, pid.to_i) if Bench.alive?(pid) }
      Process.wait(@pid)
    rescue Errno::ESRCH, Errno::ECHILD
      nil
    end

    private

    def count_switches
      Dir["/proc/#{@pid}/task/*/status"].sum { |file| File.read(file).scan(/ctxt_switches:\s+(\d+)/).flatten.sum(&:to_i) }
    end

    def wait(what)
      deadline = Bench.now + 60
      until yield
        raise "#{@peer.name}: #{what} did not come: #{File.read(File.join(File.dirname(@log), 'out'))}" if Bench.now > deadline

        sleep 0.0005
      end
    end
  end

  def self.measure(peer)
    Dir.mktmpdir("peer") do |folder|
      running = Running.new(peer, folder)
      sleep 2 # s6 holds a service back that ends in its first second; the others have come to rest by then
      replace = Array.new(Bench.times(20, 2)) { running.replace(:KILL).tap { sleep(peer.name == "s6-supervise" ? 1.2 : 0.1) } }
      hang = Array.new(Bench.times(3, 1)) { running.replace(:STOP) - (peer.hangs_after * 1_000) } if peer.hangs_after
      figures = { "replace" => Bench.percentile(replace, 50), "hang, on top of its timeout" => hang && Bench.percentile(hang, 50),
                  "idle" => running.switches(Bench.times(10, 1)), "footprint" => running.pss }
      figures["orphan"] = running.orphan
      figures
    ensure
      running&.stop
    end
  end

  UNITS = { "replace" => "ms", "hang, on top of its timeout" => "ms", "orphan" => "ms", "idle" => "switches in 10 s",
            "footprint" => "MiB of the master" }.freeze

  def self.run
    if TestGems.available?
      TestGems.ensure_installed
      ENV["GEM_PATH"] = [TestGems::HOME, ENV["GEM_PATH"]].compact.join(":")
      ENV["PATH"] = "#{TestGems::HOME}/bin:#{ENV['PATH']}"
      Gem.paths = { "GEM_PATH" => ENV["GEM_PATH"] }
    end
    present, absent = OTHERS.partition { |peer| peer.missing.nil? }
    absent.each { |peer| warn "  peers: without #{peer.name}, since #{peer.missing} is not installed" }
    ours = measure(OURS)
    others = present.to_h { |peer| [peer.name, measure(peer)] }
    UNITS.each do |figure, unit|
      known = others.transform_values { |figures| figures[figure] }.compact
      Bench.report("peers: #{figure}", unit, ours[figure], known) if ours[figure]
    end
  end
end

Peers.run
