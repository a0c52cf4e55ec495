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
end
