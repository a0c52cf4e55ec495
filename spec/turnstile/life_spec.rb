# frozen_string_literal: true

require_relative "nudged"

if Nudged.possible?
  RSpec.describe "SwarmNative::Turnstile: from its start to its end" do
    include Nudged

    # Native threads of ours in a process.
    native = <<~'RUBY'
      def nudgers(pid = Process.pid)
        Dir["/proc/#{pid}/task/*/comm"].count { |file| File.read(file) == "turnstile\n" }
      end
    RUBY

    it "ends a process at any moment without a crash, hang or stray output" do
      result = run_nudged(<<~RUBY, busy: 0, nudges: 0)
        200.times do |at|
          pid = fork do
            $expected_nudges = nil
            2.times { Thread.new { loop { sleep 0.000_2 } } }
            3.times { Thread.new { loop { spin } } }
            sleep(rand * 0.01)
            case at % 4
            when 0 then exit(7)
            when 1 then exit!(7)
            when 2 then Thread.new { loop { spin } }
                        Thread.main.raise(SystemExit.new(7))
            else
              at_exit { exit(7) }
              Thread.new { Thread.main.wakeup }
            end
          end
          status = Process.wait2(pid).last
          raise "\#{at}: \#{status}" unless status.exitstatus == 7
        end
        puts "all"
      RUBY
      expect(result).to be_success, result.inspect
      expect(result.out).to eq("all\n")
      expect(result.err).to eq("")
    end

    it "is on in a forked child with a thread of its own where it was on, and off where it was off" do
      result = run_ruby(<<~RUBY, deadline: 60)
        #{Nudged::PRELUDE}
        #{native}
        report = lambda do
          reader, writer = IO.pipe
          pid = fork do
            # A native thread names itself once it runs.
            wait_until { nudgers == 1 } if Turnstile.enabled?
            writer.puts Turnstile.mode, nudgers
            if Turnstile.enabled?
              busy = Thread.new { loop { spin } }
              wait_until(20) { sleep 0.001; Turnstile.stats.nudges > 10 }
              Turnstile.disable
            end
            writer.puts Turnstile.mode, nudgers
          end
          writer.close
          raise "failed" unless Process.wait2(pid).last.success?
          p reader.read.split
        end
        report.call
        nudge_all_the_time(2)
        3.times { report.call }
        wait_until { nudgers == 1 }
        p nudgers, Turnstile.mode
        Turnstile.disable
        report.call
        p nudgers
      RUBY
      expect(result).to be_success, result.inspect
      on = %w[all 1 off 0]
      off = %w[off 0 off 0]
      expect(result.out).to eq([off, on, on, on, 1, :all, off, 0].map { |line| "#{line.inspect}\n" }.join)
    end

    it "forks at any moment while others are parked" do
      result = run_nudged(<<~RUBY, busy: 3)
        150.times do
          pid = fork do
            $expected_nudges = nil
            Thread.new { sleep 0.000_1 }.join
            exit!(Turnstile.enabled? ? 7 : 8)
          end
          raise "failed" unless Process.wait2(pid).last.exitstatus == 7
        end
        puts Turnstile.mode
      RUBY
      expect(result).to be_success, result.inspect
      expect(result.out).to eq("all\n")
    end

    it "is switched on and off by several threads in a loop" do
      result = run_nudged(<<~RUBY, nudges: 1)
        #{native}
        loops = 4.times.map do
          Thread.new do
            100.times do
              Turnstile.enable(budget: 1, light: 0.000_1)
              sleep(rand * 0.001)
              Turnstile.disable
            end
          end
        end
        loops.each(&:join)
        p nudgers, Turnstile.mode
        Turnstile.enable(budget: 1)
        wait_until { nudgers == 1 }
        p nudgers, Turnstile.mode
        wait_until(20) { Turnstile.stats.nudges > 100 }
      RUBY
      expect(result).to be_success, result.inspect
      expect(result.out).to eq("0\n:off\n1\n:all\n")
    end

    it "forgets threads that end while they wait or are parked" do
      result = run_nudged(<<~RUBY)
        20.times do
          threads = 5.times.map { Thread.new { loop { spin } } } + 5.times.map { Thread.new { sleep } }
          sleep 0.002
          threads.each(&:kill).each(&:join)
        end
        # Main, two light ones and two busy ones; Ruby may have one of its own.
        stats = Turnstile.stats
        p stats.light + stats.heavy <= 6
      RUBY
      expect(result).to be_success, result.inspect
      expect(result.out).to eq("true\n")
    end

    it "keeps the order of at_exit blocks, and stays off once the process exits" do
      result = run_ruby(<<~RUBY, deadline: 60)
        #{Nudged::PRELUDE}
        at_exit do
          Turnstile.enable
          puts "first registered", Turnstile.explain
        end
        nudge_all_the_time(2)
        at_exit { puts "last registered", Turnstile.mode }
      RUBY
      expect(result).to be_success, result.inspect
      expect(result.out.lines(chomp: true)).to eq(
        ["last registered", "all", "first registered", "off: the process is exiting"]
      )
    end

    it "stays off beside another Ractor, and says so" do
      result = run_ruby(<<~RUBY, deadline: 30, ruby: ["-W0"])
        require "swarm_native/turnstile"
        t = SwarmNative::Turnstile
        p t.enable
        ractor = Ractor.new { Ractor.receive }
        puts t.explain
        p t.enable
        puts t.explain
        ractor.send(1)
        ractor.respond_to?(:value) ? ractor.value : ractor.take
        wait_until { Ractor.count == 1 }
        p t.enable
      RUBY
      expect(result).to be_success, result.inspect
      why = "off: another Ractor than the main one runs, and the VM tells of the threads of all as if they shared a GVL"
      expect(result.out.lines(chomp: true)).to eq([":all", why, ":off", why, ":all"])
    end

    it "stays off with M:N threads, and says so" do
      result = run_ruby(<<~RUBY, deadline: 30, env: { "RUBY_MN_THREADS" => "1" })
        require "swarm_native/turnstile"
        p SwarmNative::Turnstile.enable
        puts SwarmNative::Turnstile.explain
      RUBY
      expect(result).to be_success, result.inspect
      expect(result.out).to match(/\A:off\noff: Ruby runs its threads on shared native ones \(RUBY_MN_THREADS\)/)
    end
  end
end
