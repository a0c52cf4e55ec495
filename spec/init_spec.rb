# frozen_string_literal: true

require "spec_helper"

RSpec.describe "SwarmNative::Init" do
  # What a program does below an init: children of its own and strangers, of its own making and of a node's.
  PROGRAM = <<~'RUBY'
    require "swarm_native"
    SwarmNative.logger = nil
    puts SwarmNative::Init.start, SwarmNative::Init.adopts?

    # The pid of a process whose parent is dead, and that ends at once.
    def stranger
      reader, writer = IO.pipe
      middle = fork do
        writer.puts(fork { exit!(0) })
        exit!(0)
      end
      Process.wait(middle)
      writer.close
      Integer(reader.read)
    end

    def gone?(pid)
      Process.kill(0, pid)
      false
    rescue Errno::ESRCH
      true
    end

    def wait_until_gone(pids)
      due = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 20
      until pids.all? { |pid| gone?(pid) }
        raise "still there: #{pids.reject { |pid| gone?(pid) }}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > due

        sleep 0.01
      end
    end

    own = spawn("exit 3")
    wait_until_gone(Array.new(10) { stranger })
    swarm = SwarmNative::Supervisor.new(nodes: 1)
    reader, writer = IO.pipe
    swarm.on(:node_ready) { Process.kill(:TERM, Process.ppid) }
    swarm.run do |node|
      writer.puts stranger
      node.ready
      node.wait until node.stopping?
    end
    writer.close
    wait_until_gone(reader.readlines.map { |line| Integer(line) })
    # A child of the program's is the program's, however late it asks.
    puts Process.wait2(own)[1].exitstatus
    $stdout.flush
    exit!(7)
  RUBY

  it "reaps strangers as PID 1, leaves the program its own children, passes signals on, and ends as the program did" do
    skip "a pid namespace needs root" unless Process.uid.zero?

    result = run_ruby(<<~'RUBY', args: [PROGRAM], library: "json", deadline: 40)
      load_path = $LOAD_PATH.flat_map { |path| ["-I", path] }
      system("unshare", "--pid", "--fork", "--kill-child", RbConfig.ruby, *load_path, "-e", ARGV[0])
      puts $?.exitstatus
    RUBY
    expect(result.out.split).to eq(%w[true false 3 7]), result.inspect
  end

  it "does the same as a subreaper" do
    result = run_ruby(<<~RUBY, library: nil, deadline: 40)
      require "swarm_native"
      Process.wait(fork do
        SwarmNative::Init.subreaper = true
        raise "no subreaper" unless SwarmNative::Init.adopts?

        #{PROGRAM}
      end)
      puts $?.exitstatus
    RUBY
    expect(result.out.split).to eq(%w[true false 3 7]), result.inspect
  end

  it "does nothing in any other process" do
    result = run_ruby("p SwarmNative::Init.adopts?, SwarmNative::Init.start, Process.wait(fork { }).positive?")
    expect(result.out.split).to eq %w[false false true]
  end

  it "ends with 128 and the signal where the program was ended by one" do
    result = run_ruby(<<~'RUBY')
      Process.wait(fork do
        SwarmNative::Init.subreaper = true
        SwarmNative::Init.start
        Process.kill(:KILL, Process.pid)
      end)
      puts $?.exitstatus
    RUBY
    expect(result.out).to eq "137\n"
  end

  it "is missed, by a supervisor that adopts" do
    result = run_ruby(<<~'RUBY')
      require "logger"
      lines = []
      SwarmNative.logger = Logger.new(File.open("log", "w").tap { |log| log.sync = true })
      [false, true].each do |on|
        SwarmNative::Init.subreaper = on
        swarm = SwarmNative::Supervisor.new(nodes: 1, warmup: false)
        swarm.on(:node_ready) { swarm.stop }
        swarm.run { |node| node.ready; node.wait until node.stopping? }
      end
      puts File.readlines("log").grep(/WARN/).map { |line| line[/gets the children of the dead.*/] }
    RUBY
    expect(result.out).to eq "gets the children of the dead, and does not reap them: begin the program with " \
                             "SwarmNative::Init.start, or run it below an init\n"
  end

  it "says what has to come after it" do
    result = run_ruby(<<~'RUBY')
      SwarmNative::Init.subreaper = true
      thread = Thread.new { sleep }
      thread.name = "poller"
      begin
        SwarmNative::Init.start
      rescue SwarmNative::Error => e
        puts e.message[/Init.start has to come before other threads: .*poller.* would be missing/] ? "told" : e.message
      end
      thread.kill.join
      lease = SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "")
      begin
        SwarmNative::Init.start
      rescue SwarmNative::ForkRefused
        puts "refused"
      end
      lease.release
      # What was trapped before is in place again.
      trap("USR1") { puts "own" }
      begin
        SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "").then { SwarmNative::Init.start }
      rescue SwarmNative::ForkRefused
        Process.kill(:USR1, Process.pid)
      end
    RUBY
    expect(result.out).to eq "told\nrefused\nown\n"
  end

  it "loses no signal and doubles none, whenever it comes" do
    result = run_ruby(<<~'RUBY', deadline: 60)
      require "io/wait"
      random = Random.new(1)
      ends = Array.new(40) do
        reader, writer = IO.pipe
        pid = fork do
          SwarmNative::Init.subreaper = true
          count = 0
          trap("USR1") do
            count += 1
            writer.syswrite("u")
          end
          trap("TERM") { exit!(10 + count) }
          writer.syswrite(".")
          SwarmNative::Init.start
          sleep
        end
        reader.read(1)
        random.rand(2_000).times { } # at any moment of it
        Process.kill(:USR1, pid)
        # The kernel keeps no order between two signals that wait at once.
        raise "the signal is lost" unless reader.wait_readable(15) && reader.read(1) == "u"

        Process.kill(:TERM, pid)
        Process.wait2(pid)[1].exitstatus
      end
      p ends.tally
    RUBY
    expect(result.out.delete(" ")).to eq("{11=>40}\n"), result.inspect
  end
end
