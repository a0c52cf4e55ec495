# frozen_string_literal: true

require_relative "../spec_helper"
require_relative "../support/swarm"

RSpec.describe SwarmNative::Supervisor, "forks" do
  it "a node without anything that only the supervisor owns, also of another supervisor in the process" do
    result = run_swarm(<<~'RUBY')
      def kinds = Dir.children("/proc/self/fd").filter_map { |fd| File.readlink("/proc/self/fd/#{fd}") rescue nil }
      before = kinds
      other = supervisor(nodes: 3)
      thread = in_background(other)
      all_ready(other)
      swarm = supervisor(nodes: 3)
      swarm.on(:node_ready) do |event|
        # The last word is that of a replacement, which was forked beside siblings.
        event.node_id == 2 && !@killed ? (@killed = true; Process.kill(:KILL, event.pid)) : (swarm.stop if @killed)
      end
      swarm.run do |node|
        wait_until { Thread.list.any? { |thread| thread.name == "swarm node" && thread.stop? } }
        File.write("node", (kinds - before).map { |name| name[/\A\D+/] }.tally.sort.map { |pair| pair.join(" ") }.join("\n"))
        WORK.call(node)
      end
      other.stop
      thread.join
      puts File.read("node")
    RUBY
    # The supervisor's pidfd and its own; the pipes on which it reports and is asked, and the one that rings in it.
    expect(result.out).to eq("anon_inode:[pidfd] 2\npipe:[ 4\n")
  end

  it "and stays able to see its nodes end after one of them has closed the shared epoll set" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(nodes: 2)
      thread = in_background(swarm)
      all_ready(swarm)
      5.times do
        2.times do |id|
          pid = ready_pid(swarm, id: id)
          Process.kill(:KILL, pid)
          ready_pid(swarm, pid, id: id)
        end
      end
      swarm.stop
      thread.join
      puts "seen"
    RUBY
    expect(result.out).to eq("seen\n")
  end

  it "no more descriptors, zombies or memory after 1,000 replacements than after 10" do
    result = run_swarm(<<~'RUBY', deadline: 90)
      def memory = File.read("/proc/self/status")[/^RssAnon:\s+(\d+)/, 1].to_i
      swarm = supervisor(nodes: 2)
      count = 0
      early = nil
      swarm.on(:node_ready) do |event|
        count += 1
        if count == 200
          GC.start
          early = [open_files, children, memory]
        end
        count > 1200 ? swarm.stop : Process.kill(:KILL, event.pid)
      end
      late = nil
      swarm.on(:stopping) { GC.start; late = [open_files, children, memory] }
      swarm.run(&WORK)
      puts late[0] - early[0], late[1] - early[1], late[2] - early[2]
    RUBY
    files, children, kilobytes = result.out.lines.map(&:to_i)
    expect(files).to be_between(-4, 4) # the report pipe and the pidfd of a node that is just being replaced
    expect(children).to be_between(-2, 2)
    expect(kilobytes).to be < 512
  end

  it "nobody when another gem's hook raises in the child, and is no second supervisor there" do
    result = run_swarm(<<~'RUBY')
      module Broken
        def _fork
          super.tap { |pid| raise "broken hook" if pid.zero? }
        end
      end
      Process.singleton_class.prepend(Broken)
      swarm = supervisor(backoff_min: 0.01, crash_loop_limit: 3, on_crash_loop: :stop)
      begin
        swarm.run { puts "ran" }
      rescue SwarmNative::Error => e
        puts e.message
      end
      puts "one supervisor"
    RUBY
    expect(result.out).to eq("node 0 is in a crash loop, which ends the swarm (on_crash_loop: :stop)\none supervisor\n")
    expect(result.err).to include("a Process._fork hook raised in the child", "broken hook")
  end

  it "again later when the fork fails in the supervisor, and tells why" do
    result = run_swarm(<<~'RUBY')
      module Full
        def _fork
          raise Errno::EAGAIN, "fork(2)" if ($forks = $forks.to_i + 1) == 2
          super
        end
      end
      Process.singleton_class.prepend(Full)
      swarm = supervisor(nodes: 3, backoff_min: 0.05)
      errors = []
      swarm.on(:error) { |event| errors << event }
      swarm.before_fork { @files ||= open_files }
      thread = in_background(swarm)
      all_ready(swarm)
      puts errors.map { |event| "#{event.node_id} #{event.message} #{event.error.class}" }
      swarm.stop
      thread.join
      puts open_files - @files
    RUBY
    expect(result.out.lines.first).to match(/\A1 fork failed: Resource temporarily unavailable - fork\(2\).* Errno::EAGAIN$/)
    expect(result.out.lines.last.to_i).to be <= 0
  end

  it "again later when descriptors have run out, with the other nodes untouched" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(nodes: 2, backoff_min: 0.05)
      errors = []
      swarm.on(:error) { |event| errors << event.error.class }
      thread = in_background(swarm)
      all_ready(swarm)
      untouched = ready_pid(swarm, id: 1)
      hoard = []
      Process.setrlimit(:NOFILE, open_files + 8)
      begin
        loop { hoard << File.open("/dev/null") }
      rescue Errno::EMFILE
        Process.kill(:KILL, pid = ready_pid(swarm))
      end
      wait_until(5) { errors.size >= 2 }
      hoard.each(&:close)
      ready_pid(swarm, pid)
      puts errors.uniq.inspect, ready_pid(swarm, id: 1) == untouched
      swarm.stop
      thread.join
    RUBY
    expect(result.out).to eq("[Errno::EMFILE]\ntrue\n")
  end

  it "nothing while a librdkafka handle is live: run raises and names it" do
    result = run_swarm(<<~'RUBY')
      lease = SwarmNative::ForkGuard::Lease.take("Handle", "orders", "app.rb:1")
      begin
        supervisor(nodes: 2).run { puts "forked" }
      rescue SwarmNative::ForkRefused => e
        puts e.handles.inspect, children
      end
      lease.release
    RUBY
    expect(result.out).to eq(%(["Handle orders (made at app.rb:1)"]\n0\n))
  end

  it "a replacement once the handle that was in its way is closed" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(backoff_min: 0.05)
      errors = []
      swarm.on(:error) { |event| errors << event.error.class }
      thread = in_background(swarm)
      pid = ready_pid(swarm)
      lease = SwarmNative::ForkGuard::Lease.take("Handle", "orders", "app.rb:1")
      Process.kill(:KILL, pid)
      wait_until(5) { errors.size >= 2 }
      lease.release
      ready_pid(swarm, pid)
      puts errors.uniq.inspect
      swarm.stop
      thread.join
    RUBY
    expect(result.out).to eq("[SwarmNative::ForkRefused]\n")
  end

  it "a child that leaves when its supervisor dies before it says go" do
    result = run_swarm(<<~'RUBY')
      module Slow
        def _fork
          super.tap do |pid|
            if pid.zero?
              File.write("born", Process.pid)
            else
              # The child waits for go, which never comes.
              wait_until(5) { File.exist?("born") && File.read("/proc/#{pid}/wchan") =~ /poll/ }
              Process.kill(:KILL, Process.pid)
            end
          end
        end
      end
      Process.singleton_class.prepend(Slow)
      supervisor.run { File.write("ran", "") }
    RUBY
    expect(result.status.termsig).to eq(9)
  end

  it "hooks: before_fork in the supervisor, after_fork in the node, and reports one that raises" do
    result = run_swarm(<<~'RUBY')
      swarm = supervisor(backoff_min: 0.01)
      calls = 0
      main = Process.pid
      swarm.before_fork { raise "not now" if (calls += 1) == 1 && Process.pid == main }
      swarm.after_fork { |node| $stdout.syswrite("after_fork of node #{node.id}: #{node.pid != main}\n") }
      swarm.on(:error) { |event| puts event.message }
      swarm.on(:node_ready) { swarm.stop }
      swarm.run(&WORK)
      puts calls
    RUBY
    expect(result.out).to eq("fork failed: not now (RuntimeError)\nafter_fork of node 0: true\n2\n")
  end

  it "nodes that run at_exit blocks, or none where the policy says so" do
    result = run_swarm(<<~'RUBY')
      at_exit { $stdout.syswrite("at_exit #{Process.pid == MAIN ? "supervisor" : "node"}\n") }
      MAIN = Process.pid
      [true, false].each do |at_exit|
        swarm = supervisor(at_exit: at_exit)
        swarm.on(:node_ready) { swarm.stop }
        swarm.on(:node_exited) { |event| puts "#{at_exit}: #{event.exit_status.exitstatus}" }
        swarm.run { |node| node.ready; node.wait until node.stopping?; exit 4 }
      end
    RUBY
    expect(result.out).to eq("at_exit node\ntrue: 4\nfalse: 4\nat_exit supervisor\n")
  end

  it "nodes in which threads of another gem's hook can be ended and timed out" do
    result = run_swarm(<<~'RUBY')
      require "timeout"
      module Restarting
        def _fork
          super.tap { |pid| $thread = Thread.new { Timeout.timeout(0.1) { sleep } } if pid.zero? }
        end
      end
      Process.singleton_class.prepend(Restarting)
      swarm = supervisor
      swarm.on(:node_ready) { swarm.stop }
      swarm.run do |node|
        $thread.report_on_exception = false
        $thread.join
      rescue Timeout::Error => e
        puts e.class
        Thread.new { sleep } # for the process to end at its exit
        WORK.call(node)
      end
    RUBY
    expect(result.out).to eq("Timeout::Error\n")
    expect(result).to be_success
  end

  it "and keeps a child whose fork returned with an exception that was raised at the thread" do
    result = run_swarm(<<~'RUBY')
      # The exception comes at the first moment after the fork at which Ruby code can be interrupted.
      module Raising
        def _fork
          super.tap { |pid| Thread.current.raise(ArgumentError, "from elsewhere") if pid.positive? }
        end
      end
      Process.singleton_class.prepend(Raising)
      swarm = supervisor
      told = record(swarm)
      begin
        swarm.run(&WORK)
      rescue ArgumentError => e
        puts e.message, children
      end
      puts told.map(&:name).inspect
    RUBY
    expect(result.out.lines.first(2).join).to eq("from elsewhere\n0\n")
    expect(result.out.lines.last).to start_with("[:node_started").and end_with(":node_exited, :stopped]\n")
  end

  it "without losing an exception that is raised at its thread meanwhile" do
    result = run_swarm(<<~'RUBY', deadline: 60)
      delivered = 0
      100.times do |round|
        # Nodes that end at once keep the supervisor forking.
        swarm = supervisor(nodes: 3, settle: 0)
        thread = Thread.new { swarm.run { |node| node.ready } }
        thread.report_on_exception = false
        wait_until(10) { swarm.nodes.sum(&:restarts) > round % 7 }
        thread.raise(ArgumentError, "for the supervisor")
        begin
          thread.join
        rescue ArgumentError
          delivered += 1
        end
      end
      puts delivered, children
    RUBY
    expect(result.out).to eq("100\n0\n")
    expect(result.err).to eq("")
  end
end
