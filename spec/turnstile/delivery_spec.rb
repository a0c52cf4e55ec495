# frozen_string_literal: true

require_relative "nudged"

# What other threads and the kernel send to a thread that is nudged all the time, each sent a thousand times.
if Nudged.possible?
  RSpec.describe "SwarmNative::Turnstile: what is sent to a nudged thread" do
    include Nudged

    it "delivers each Thread#raise once" do
      result = run_nudged(<<~RUBY)
        class Hit < StandardError; end
        hits = 0
        told = Queue.new
        victim = Thread.new do
          Thread.handle_interrupt(Hit => :never) do
            told << :ready
            loop do
              Thread.handle_interrupt(Hit => :immediate) { loop { spin } }
            rescue Hit
              hits += 1
              told << :hit
            end
          end
        end
        told.pop
        1_000.times do
          victim.raise(Hit)
          told.pop
        end
        wait_until(1) { victim.pending_interrupt? == false }
        p hits, told.size
      RUBY
      expect(result).to be_success, result.err
      expect(result.out).to eq("1000\n0\n")
    end

    it "ends each thread that is killed, and runs its ensure once" do
      result = run_nudged(<<~RUBY)
        Turnstile.light!(Thread.main)
        ended = 0
        started = Queue.new
        100.times do
          victims = 10.times.map do
            Thread.new do
              started << true
              loop { spin }
            ensure
              ended += 1
            end
          end
          10.times { started.pop }
          victims.each(&:kill).each(&:join)
        end
        p ended
      RUBY
      expect(result).to be_success, result.err
      expect(result.out).to eq("1000\n")
    end

    it "ends each block whose Timeout is over" do
      result = run_nudged(<<~RUBY, busy: 1)
        require "timeout"
        ended = 0
        1_000.times do
          Timeout.timeout(0.001) { loop { spin } }
        rescue Timeout::Error
          ended += 1
        end
        p ended
      RUBY
      expect(result).to be_success, result.err
      expect(result.out).to eq("1000\n")
    end

    it "runs a trap once for each signal, and Interrupt comes through" do
      result = run_nudged(<<~RUBY, busy: 1)
        seen = 0
        told = Queue.new
        trap("USR1") { seen += 1 }
        sender = Thread.new do
          1_000.times do |sent|
            Process.kill("USR1", Process.pid)
            sleep 0.000_1 until seen > sent
          end
          told << :done
        end
        spin while told.empty?
        p seen
        begin
          Thread.new { Process.kill("INT", Process.pid) }
          loop { spin }
        rescue Interrupt
          puts "interrupted"
        end
      RUBY
      expect(result).to be_success, result.err
      expect(result.out).to eq("1000\ninterrupted\n")
    end

    it "keeps what handle_interrupt holds back until the block is over" do
      result = run_nudged(<<~RUBY)
        class Hit < StandardError; end
        Turnstile.light!(Thread.main)
        early = late = 0
        100.times do
          inside = Queue.new
          victim = Thread.new do
            masked = true
            Thread.handle_interrupt(Hit => :never) do
              inside << true
              50.times { spin }
              masked = false
            end
            loop { spin }
          rescue Hit
            masked ? early += 1 : late += 1
          end
          inside.pop
          victim.raise(Hit)
          victim.join
        end
        p [early, late]
      RUBY
      expect(result).to be_success, result.err
      expect(result.out).to eq("[0, 100]\n")
    end
  end
end
