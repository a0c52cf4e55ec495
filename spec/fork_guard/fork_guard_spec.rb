# frozen_string_literal: true

require "spec_helper"

RSpec.describe "SwarmNative::ForkGuard" do
  # Every way to fork, as code that gives the refusal or nil.
  WAYS = {
    "Kernel#fork" => "fork { }",
    "Process.fork" => "Process.fork { }",
    "Process.fork without a block" => "Process.fork or exit!(0)",
    'IO.popen("-")' => 'IO.popen("-") { |io| exit!(0) unless io }'
  }.freeze

  def lines(result)
    expect(result).to be_success, result.inspect
    result.out.lines(chomp: true)
  end

  WAYS.each do |name, way|
    it "refuses #{name} while a handle is live, and allows it afterwards" do
      result = run_ruby(<<~RUBY)
        lease = SwarmNative::ForkGuard::Lease.take("Some::Producer", "p-1", "app.rb:3")
        fds = Dir.children("/proc/self/fd").sort
        begin
          #{way}
          puts "forked"
        rescue SwarmNative::ForkRefused => e
          puts e.message.include?("1 librdkafka handle is live: Some::Producer p-1 (made at app.rb:3)."), e.handles.inspect
        end
        puts Dir.children("/proc/self/fd").sort == fds
        lease.release
        #{way}
        puts Process.waitall.size <= 1
      RUBY
      expect(lines(result)).to eq ["true", '["Some::Producer p-1 (made at app.rb:3)"]', "true", "true"]
    end
  end

  it "is on with this file alone, and leaves what execs alone" do
    result = run_ruby(<<~RUBY, library: "swarm_native/fork_guard")
      SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "").then do |lease|
        puts system("true"), `echo a`, IO.popen("echo b", &:read), Process.wait2(spawn("exit 3")).last.exitstatus
        begin
          fork { }
        rescue SwarmNative::ForkRefused
          puts "refused"
        end
        lease.release
      end
    RUBY
    expect(lines(result)).to eq %w[true a b 3 refused]
  end

  # The same fork in disguise, which Ruby 4.0 no longer knows. Refused, though its pipe stays until the process ends.
  it 'refuses open("|-") and its like, and allows them afterwards', if: RUBY_VERSION < "4" do
    result = run_ruby(<<~'RUBY', ruby: ["-W0"])
      ways = [-> { open("|-") { |io| exit!(0) unless io } }, -> { IO.read("|-") or exit!(0) }]
      lease = SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "")
      ways.each do |way|
        way.call
        puts "forked"
      rescue SwarmNative::ForkRefused
        puts "refused"
      end
      lease.release
      ways.each(&:call)
      puts SwarmNative::ForkGuard.safe?
    RUBY
    expect(lines(result)).to eq %w[refused refused true]
  end

  it "gives the permit back when the fork fails or another hook raises" do
    result = run_ruby(<<~RUBY, library: nil)
      below = Module.new do
        def _fork
          $raise ? raise("no") : super
        end
      end
      Process.singleton_class.prepend(below)
      require "swarm_native"
      $raise = true
      100.times do
        fork { }
      rescue RuntimeError
      end
      $raise = false
      SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "").release
      Process.wait(fork { exit!(7) })
      puts $?.exitstatus
    RUBY
    expect(lines(result)).to eq %w[7]
  end

  it "does not keep the permit when the forking thread is killed or raised into" do
    result = run_ruby(<<~RUBY, library: nil)
      slow = Module.new do
        def _fork
          $in.push(true)
          sleep
          super
        end
      end
      $in = Queue.new
      Process.singleton_class.prepend(slow)
      require "swarm_native"
      50.times do |i|
        thread = Thread.new { fork { } }
        thread.report_on_exception = false
        $in.pop
        i.even? ? thread.kill : thread.raise("away")
        thread.join rescue nil
      end
      SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "").release
      puts "free"
    RUBY
    expect(lines(result)).to eq %w[free]
  end

  it "makes a handle wait for a fork in another thread" do
    result = run_ruby(<<~RUBY, library: nil)
      slow = Module.new do
        def _fork
          $in.push(true)
          $go.pop
          super
        end
      end
      $in, $go = Queue.new, Queue.new
      Process.singleton_class.prepend(slow)
      require "swarm_native"
      forker = Thread.new { fork { exit!(0) } }
      $in.pop
      opener = Thread.new { SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "") }
      wait_until { opener.status == "sleep" }
      $go.push(true)
      Process.wait(forker.value)
      opener.value.release
      puts $?.success?
    RUBY
    expect(lines(result)).to eq %w[true]
  end

  it "starts the child with an empty registry, at once, for hooks below ours as well" do
    result = run_ruby(<<~RUBY, library: nil)
      opens = Module.new do
        def _fork
          super.tap { $lease = SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "") }
        end
      end
      Process.singleton_class.prepend(opens)
      require "swarm_native"
      pid = fork do
        $lease.release
        Process.wait(fork { $lease.release; exit!(8) })
        exit!($?.exitstatus)
      end
      $lease.release
      Process.wait(pid)
      puts $?.exitstatus
    RUBY
    expect(lines(result)).to eq %w[8]
  end

  it "lets every thread make handles while the block of IO.popen runs" do
    result = run_ruby(<<~'RUBY')
      take = -> { SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "").release }
      IO.popen("-", "r+") do |io|
        if io
          take.call
          Thread.new(&take).join
          io.puts "go on"
          puts io.read
        else
          take.call
          Thread.new(&take).join
          print gets
        end
      end
      Thread.new(&take).join
      puts "end"
    RUBY
    expect(lines(result)).to eq ["go on", "end"]
  end

  it "refuses a handle that a hook would make right before the fork" do
    result = run_ruby(<<~RUBY, library: nil)
      opens = Module.new do
        def _fork
          SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "app.rb:1")
          super
        end
      end
      Process.singleton_class.prepend(opens)
      require "swarm_native"
      begin
        fork { }
      rescue SwarmNative::ForkRefused => e
        puts e.message
      end
    RUBY
    expect(lines(result))
      .to eq ["Some::Producer (made at app.rb:1) cannot be made here: this thread is about to fork; make it afterwards"]
  end

  it "refuses Process.daemon while a handle is live, and allows it afterwards" do
    result = run_ruby(<<~'RUBY')
      lease = SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "")
      parent = Process.pid
      begin
        Process.daemon(true, true)
      rescue SwarmNative::ForkRefused
        $stdout.syswrite("refused\n")
      end
      $stdout.syswrite("#{Process.pid == parent}\n")
      lease.release
      reader, writer = IO.pipe
      fork do
        Process.daemon(true, true)
        SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "").release
        writer.puts(SwarmNative::ForkGuard.safe?)
        exit!
      end
      writer.close
      puts reader.read
    RUBY
    expect(lines(result)).to eq %w[refused true true]
  end

  it "can be set to warn, once for each place that forks, and to nothing" do
    result = run_ruby(<<~'RUBY')
      above = Module.new do
        def _fork
          super
        end
      end
      Process.singleton_class.prepend(above)
      lease = SwarmNative::ForkGuard::Lease.take("Some::Producer", "p-1", "app.rb:3")
      SwarmNative::ForkGuard.mode = :warn
      3.times do
        Process.wait(fork { exit!(0) })
      end
      Process.wait(Process.fork { exit!(0) }); IO.popen("-") { |io| exit!(0) unless io }
      SwarmNative::ForkGuard.mode = :off
      Process.wait(fork { exit!(0) })
      SwarmNative::ForkGuard.mode = :raise
      begin
        fork { exit!(0) }
      rescue SwarmNative::ForkRefused
        puts "refused"
      end
    RUBY
    expect(lines(result)).to eq %w[refused]
    warnings = result.err.lines.grep(/unsafe fork/)
    expect(warnings.map { |line| line[/\(forked at (.*)\)/, 1] }).to eq %w[example.rb:10 example.rb:12]
    expect(warnings).to all include("1 librdkafka handle is live: Some::Producer p-1 (made at app.rb:3).")
  end

  it "is bypassed by one thread, for one block, and not by the children" do
    result = run_ruby(<<~'RUBY')
      lease = SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "")
      refused = lambda do
        Process.wait(fork { exit!(0) })
        false
      rescue SwarmNative::ForkRefused
        true
      end
      SwarmNative::ForkGuard.bypass do
        puts refused.call, Thread.new(&refused).value, Fiber.new(&refused).resume
        SwarmNative::ForkGuard.bypass { puts refused.call }
        puts refused.call
        Process.wait(fork { SwarmNative::ForkGuard::Lease.take("A", "", "").then { |own| exit!(refused.call ? 9 : 1) } })
        puts $?.exitstatus
      end
      puts refused.call
      begin
        SwarmNative::ForkGuard.bypass { raise "out" }
      rescue RuntimeError
        puts refused.call
      end
      puts SwarmNative::ForkGuard.bypass { 42 }
    RUBY
    expect(lines(result)).to eq %w[false true false false false 9 true true 42]
  end

  it "tells what is live, without a fork" do
    result = run_ruby(<<~'RUBY')
      guard = SwarmNative::ForkGuard
      p guard.safe?, guard.live_handles, guard.check!
      lease = guard::Lease.take("Some::Producer", "p-1", "app.rb:3")
      handle = guard.live_handles.first
      p guard.safe?, handle.class_name, handle.name, handle.made_at, handle.phase, handle.origin
      p (Time.now - handle.since).between?(0, 60), handle.to_s, handle.frozen?
      begin
        guard.mode = :off
        guard.check!
      rescue SwarmNative::ForkRefused => e
        p e.handles == [handle.to_s]
      end
    RUBY
    expect(lines(result)).to eq ["true", "[]", "nil", "false", '"Some::Producer"', '"p-1"', '"app.rb:3"', ":open", "nil",
                                 "true", '"Some::Producer p-1 (made at app.rb:3)"', "true", "true"]
  end

  it "refuses settings that cannot be, and says what can" do
    guard = SwarmNative::ForkGuard
    expect { guard.mode = :loud }.to raise_error(ArgumentError, "mode must be :raise, :warn or :off, not :loud")
    expect { guard.mode = "raise" }.to raise_error(ArgumentError, /not "raise"/)
    [-1, Float::NAN, -Float::INFINITY].each do |seconds|
      expect { guard.gate_timeout = seconds }.to raise_error(ArgumentError, /must be 0 or more seconds, not (-1|NaN|-inf)/)
    end
    expect { guard.gate_timeout = nil }.to raise_error(TypeError)
    expect([guard.mode, guard.gate_timeout]).to eq [:raise, 1.0]
  end

  # In Ruby 3.1 a child hangs now and then, with this gem and without, where another Ractor was at work at its fork: what
  # locks of the VM that one had stay locked. So the main one is to rest.
  it "works in any Ractor" do
    result = run_ruby(<<~'RUBY')
      ractor = Ractor.new(Process.pid) do |main|
        rested = 0
        until rested == 10
          sleep 0.002
          rested = File.read("/proc/self/task/#{main}/stat")[/\) (\S)/, 1] == "S" ? rested + 1 : 0
        end
        [IO.popen("echo a", &:read), Process.wait2(fork { exit!(6) })[1].exitstatus]
      end
      p ractor.respond_to?(:value) ? ractor.value : ractor.take
    RUBY
    expect(lines(result)).to eq ['["a\\n", 6]']
  end

  it "is prepended once, however often it is loaded, and leaves hooks above and below alone" do
    result = run_ruby(<<~'RUBY', library: nil)
      $seen = []
      hook = ->(name) { Module.new { define_method(:_fork) { $seen << name; super() } } }
      Process.singleton_class.prepend(hook.call("below"))
      require "swarm_native"
      Process.singleton_class.prepend(hook.call("above"))
      load $LOADED_FEATURES.grep(/fork_guard\.rb\z/).first
      Process.wait(fork { exit!(0) })
      p $seen, Process.singleton_class.ancestors.count(SwarmNative::ForkGuard::ProcessHook)
      lease = SwarmNative::ForkGuard::Lease.take("Some::Producer", "", "")
      begin
        fork { exit!(0) }
      rescue SwarmNative::ForkRefused
        p $seen
      end
    RUBY
    # A refusal comes before the hooks below have begun anything.
    expect(lines(result)).to eq ['["above", "below"]', "1", '["above", "below", "above"]']
  end
end
