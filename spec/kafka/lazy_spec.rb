# frozen_string_literal: true

require "spec_helper"

RSpec.describe "SwarmNative::Kafka.lazy" do
  it "makes its state once, however many threads ask at a time, and gives all the same" do
    20.times do
      made = 0
      gate = Queue.new
      state = SwarmNative::Kafka.lazy do
        count = made
        Thread.pass
        made = count + 1
        Object.new
      end
      expect([state.made?, made]).to eq [false, 0]
      threads = Array.new(100) { Thread.new { gate.pop && state.value } }
      100.times { gate << true }
      expect(threads.map(&:value).uniq.size).to eq 1
      expect([state.made?, made]).to eq [true, 1]
    end
  end

  it "lets the next one try again when the block has raised" do
    tries = 0
    state = SwarmNative::Kafka.lazy { (tries += 1) < 3 ? raise(IOError, "try #{tries}") : "made" }
    expect { state.value }.to raise_error(IOError, "try 1")
    expect(state.made?).to be false
    expect { state.value }.to raise_error(IOError, "try 2")
    expect([state.value, state.value, tries]).to eq ["made", "made", 3]
  end

  it "may be nil or false, and is not made twice for that" do
    tries = 0
    state = SwarmNative::Kafka.lazy { (tries += 1) && nil }
    expect([state.value, state.value, tries]).to eq [nil, nil, 1]
  end

  it "is made anew in a forked process, also when a thread was making it at the fork" do
    result = run_ruby(<<~'RUBY')
      in_block, go = Queue.new, Queue.new
      state = SwarmNative::Kafka.lazy do
        in_block << true
        go.pop if Thread.current[:slow]
        Process.pid
      end
      slow = Thread.new { Thread.current[:slow] = true; state.value }
      in_block.pop
      child = fork { exit!(state.value == Process.pid ? 0 : 1) }
      Process.wait(child)
      puts $?.success?
      go << true
      puts slow.value == Process.pid, state.value == Process.pid
      child = fork { exit!(!state.made? && state.value == Process.pid ? 0 : 1) }
      Process.wait(child)
      puts $?.success?
    RUBY
    expect([result.out, result.err]).to eq ["true\n" * 4, ""]
  end

  it "tells a block that asks for its own value" do
    state = nil
    state = SwarmNative::Kafka.lazy { state.value }
    expect { state.value }.to raise_error(SwarmNative::Error, /asks for its own value/)
    expect { SwarmNative::Kafka.lazy }.to raise_error(ArgumentError, "lazy needs a block")
  end
end
