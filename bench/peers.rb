# frozen_string_literal: true

# Ours beside what others use, in one run: a worker killed, a worker frozen, the master killed, the master idle, and what
# the master weighs. Every program does the same nothing: its workers write a line when they begin, and sleep. All are set
# to take a worker for hung after 5 s, if they ever do, and that is what their idle masters are busy with.
#
# Puma and Pitchfork come from the folder of test gems, s6 and gunicorn from Debian. What is missing is named and left
# out of the table. PEERS="Puma,gunicorn" measures some.

require "fileutils"
require "tmpdir"
require_relative "support"
require_relative "../spec/support/test_gems"

module Peers
  WORKERS = 2
  TIMEOUT = 5
  RUBY_LINE = %q(File.write(ENV.fetch("PEER_LOG"), "#{Process.pid} #{Process.clock_gettime(Process::CLOCK_MONOTONIC)}\n", mode: "a"))

  # How a program is started, how many workers it has, and after how many seconds it takes a frozen one for hung (nil: it
  # never does).
  Peer = Struct.new(:name, :command, :files, :hangs_after, :needs, :workers, keyword_init: true) do
    def missing
      needs unless system("command -v #{needs} >/dev/null 2>&1") || Gem::Specification.any? { |spec| spec.name == needs }
    end
  end

  OURS = Peer.new(
    name: "karafka_swarm", hangs_after: TIMEOUT, needs: "ruby", workers: WORKERS,
    command: [RbConfig.ruby, "-rswarm_native", "swarm.rb"],
    files: { "swarm.rb" => <<~RUBY }
      SwarmNative.logger = nil
      swarm = SwarmNative::Supervisor.new(nodes: #{WORKERS}, stable_after: 0, report_interval: 1, report_timeout: #{TIMEOUT})
      swarm.run { |node| #{RUBY_LINE}; node.ready; node.wait until node.stopping? }
    RUBY
  )

  OTHERS = [
    Peer.new(
      name: "Puma", hangs_after: TIMEOUT, needs: "puma", workers: WORKERS,
      command: [RbConfig.ruby, "-S", "puma", "-C", "puma.rb", "app.ru"],
      files: { "app.ru" => "run ->(_env) { [200, {}, []] }\n", "puma.rb" => <<~RUBY }
        workers #{WORKERS}
        threads 1, 1
        bind "unix://" + File.expand_path("puma.sock")
        preload_app!
        worker_check_interval 1
        worker_timeout #{TIMEOUT}
        silence_single_worker_warning
        public_send(respond_to?(:before_worker_boot) ? :before_worker_boot : :on_worker_boot) { #{RUBY_LINE} }
      RUBY
    ),
    Peer.new(
      name: "Pitchfork", hangs_after: TIMEOUT, needs: "pitchfork", workers: WORKERS,
      command: [RbConfig.ruby, "-S", "pitchfork", "-c", "pitchfork.rb", "app.ru"],
      files: { "app.ru" => "run ->(_env) { [200, {}, []] }\n", "pitchfork.rb" => <<~RUBY }
        worker_processes #{WORKERS}
        listen File.expand_path("pitchfork.sock")
        timeout 3, cleanup: 2
        after_worker_ready { |_server, _worker| #{RUBY_LINE} }
      RUBY
    ),
    Peer.new(
      name: "s6-supervise", hangs_after: nil, needs: "s6-supervise", workers: 1,
      command: ["s6-supervise", "service"],
      files: { "service/run" => "#!/bin/sh\nexec #{RbConfig.ruby} -e '#{RUBY_LINE}; sleep'\n" }
    ),
    Peer.new(
      name: "gunicorn", hangs_after: TIMEOUT, needs: "gunicorn", workers: WORKERS,
      command: ["gunicorn", "-c", "conf.py", "app:app"],
      files: { "app.py" => "def app(environ, start):\n    start('200 OK', [])\n    return []\n", "conf.py" => <<~PYTHON }
        import os, time
        workers = #{WORKERS}
        bind = "unix:gunicorn.sock"
        timeout = #{TIMEOUT}
        def post_fork(server, worker):
            with open(os.environ["PEER_LOG"], "a") as log:
                log.write("%d %f\\n" % (os.getpid(), time.monotonic()))
      PYTHON
    ),
    Peer.new(
      name: "bare fork", hangs_after: nil, needs: "ruby", workers: WORKERS,
      command: [RbConfig.ruby, "fork.rb"],
      files: { "fork.rb" => <<~RUBY }
        work = -> { #{RUBY_LINE}; sleep }
        #{WORKERS}.times { fork(&work) }
        loop { Process.wait and fork(&work) }
      RUBY
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
      wait("its workers") { lines.size >= peer.workers }
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

    # Milliseconds from the end of the master to the end of its last worker; nil: they were still there after 15 s.
    def orphan
      workers = lines.map(&:first).select { |pid| Bench.alive?(pid) }
      raise "#{@peer.name}: #{workers.size} workers are left of #{@peer.workers}" unless workers.size == @peer.workers

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

  # s6 holds a service back that ends in its first second.
  def self.rest_of(peer) = peer.name == "s6-supervise" ? 2.0 : 0.1

  # @return [Hash{String => Numeric, String}] each figure, or why there is none
  def self.measure(peer)
    Dir.mktmpdir("peer") do |folder|
      running = Running.new(peer, folder)
      sleep 2 # all have come to rest by then
      replace = Array.new(Bench.times(20, 2)) { running.replace(:KILL).tap { sleep rest_of(peer) } }
      # A worker that is frozen before its master counts it as booted has another timeout. When it reported last before it
      # was frozen is up to chance.
      hang = Array.new(Bench.times(5, 1)) { running.replace(:STOP).tap { sleep(2 + rand) } } if peer.hangs_after
      { "replace" => Bench.percentile(replace, 50),
        "hang" => hang ? Bench.percentile(hang, 50) : "- (nobody asks a worker whether it works)",
        "idle" => running.switches(Bench.times(10, 1)), "footprint" => running.pss,
        "orphan" => running.orphan || "- (workers stay)" }
    ensure
      running&.stop
    end
  end

  UNITS = { "replace" => "ms", "hang" => "ms at a timeout of #{TIMEOUT} s", "orphan" => "ms", "idle" => "switches in 10 s",
            "footprint" => "MiB of the master" }.freeze

  def self.use_test_gems
    TestGems.ensure_installed
    ENV["GEM_PATH"] = [TestGems::HOME, ENV["GEM_PATH"]].compact.join(":")
    ENV["PATH"] = "#{TestGems::HOME}/bin:#{ENV['PATH']}"
    Gem.paths = { "GEM_PATH" => ENV["GEM_PATH"] }
  end

  # @param all [Hash{String => Hash}] the figures of each peer
  def self.print_table(all)
    rows = [["", *UNITS.map { |figure, unit| "#{figure}, #{unit}" }]]
    all.each do |name, figures|
      rows << [name, *UNITS.keys.map { |key| figures[key].then { |cell| cell.is_a?(String) ? cell : Bench.round(cell).to_s } }]
    end
    widths = rows.transpose.map { |column| column.map(&:size).max }
    rows.each { |row| puts "  #{row.zip(widths).map { |cell, width| cell.ljust(width) }.join('  ')}".rstrip }
  end

  def self.run
    use_test_gems if TestGems.available?
    wanted = ENV["PEERS"]&.split(",") || OTHERS.map(&:name)
    present, absent = OTHERS.select { |peer| wanted.include?(peer.name) }.partition { |peer| peer.missing.nil? }
    absent.each { |peer| warn "  peers: without #{peer.name}, since #{peer.missing} is not installed" }
    all = [OURS, *present].to_h { |peer| [peer.name, measure(peer)] }
    UNITS.each do |figure, unit|
      ours, *others = all.map { |name, figures| [name, figures[figure]] }.select { |_, value| value.is_a?(Numeric) }
      Bench.report("peers: #{figure}", unit, ours[1], others.to_h) if ours&.first == OURS.name
    end
    print_table(all)
  end
end

Peers.run
