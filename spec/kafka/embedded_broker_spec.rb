# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"

RSpec.describe "SwarmNative::Kafka::EmbeddedBroker" do
  let(:embedded) { SwarmNative::Kafka::EmbeddedBroker }

  def alive?(pid)
    !%w[Z X].include?(File.read("/proc/#{pid}/stat")[/\) (\w)/, 1])
  rescue Errno::ENOENT, Errno::ESRCH
    false
  end

  it "serves topics that were asked for, in a process of its own, until the block ends" do
    pid = nil
    result = embedded.start(topics: { "orders" => 3 }, brokers: 2) do |broker|
      pid = broker.pid
      expect(pid).not_to eq Process.pid
      expect(broker.bootstrap_servers).to match(/\A127\.0\.0\.1:\d+,127\.0\.0\.1:\d+\z/)
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": broker.bootstrap_servers)
      expect(producer.produce(topic: "orders", payload: "x", partition: 2).wait(10).partition).to eq 2
      producer.close
      :done
    end
    expect([result, alive?(pid)]).to eq [:done, false]
    expect { Process.wait(pid) }.to raise_error(Errno::ECHILD)
  end

  it "is not in the way of a fork" do
    embedded.start { expect { Process.wait(fork { exit!(0) }) }.not_to raise_error }
  end

  it "ends when its block raises" do
    pid = nil
    expect { embedded.start { |broker| pid = broker.pid; raise IOError, "out" } }.to raise_error(IOError, "out")
    expect(alive?(pid)).to be false
  end

  it "can be stopped more than once, and then refuses commands" do
    broker = embedded.start
    expect([broker.stop, broker.stop]).to eq [nil, nil]
    expect { broker.create_topic("t") }.to raise_error(SwarmNative::ClosedHandle)
  end

  it "makes topics, fails them, and takes brokers down and up while it runs" do
    embedded.start do |broker|
      expect(broker.create_topic("late", partitions: 2)).to equal broker
      expect([broker.fail_topic("late", 29), broker.fail_topic("late", 0), broker.down(1), broker.up(1)]).to all equal broker
      expect { broker.down(9) }.to raise_error(SwarmNative::Error, /down 9/)
      expect(broker.create_topic("later")).to equal broker
    end
  end

  it "refuses topics and brokers that cannot be" do
    expect { embedded.start(topics: { "a b" => 1 }) }.to raise_error(ArgumentError, /not "a b"/)
    expect { embedded.start(topics: { "a" => 0 }) }.to raise_error(ArgumentError, /not 0/)
    expect { embedded.start(topics: { "a" => 1 }, brokers: 0) }.to raise_error(ArgumentError, /brokers .* not 0/)
  end

  it "says why it did not start" do
    expect { embedded.start(timeout: 0) }.to raise_error(SwarmNative::Error, /did not start: it said nothing within 0 s/)
    expect { embedded.start(topics: { "a" => 1, "A" * 249 => 10_000 }, timeout: 0.001) }
      .to raise_error(SwarmNative::Error, /did not start/)
  end

  # The process prints the broker's pid and its own children's; the test looks at what is left of them.
  def pids_of(running)
    running.wait_for(/^pids (.*)$/)[1].split.map(&:to_i)
  end

  it "ends within milliseconds when its starter is killed, also when a fork of the starter lives on" do
    run_ruby(<<~RUBY, leak: true) do |running|
      broker = SwarmNative::Kafka::EmbeddedBroker.start
      child = fork { sleep }
      $stdout.sync = true
      puts "pids \#{broker.pid} \#{child}"
      sleep
    RUBY
      broker, child = pids_of(running)
      expect(alive?(broker)).to be true
      running.signal(:KILL)
      wait_until(2, "the end of the broker") { !alive?(broker) }
      expect(alive?(child)).to be true
    end
  end

  it "does not end by the signals that a terminal sends to everybody, nor by a TERM to its group" do
    broker = embedded.start
    %i[INT TERM HUP QUIT].each { |signal| Process.kill(signal, broker.pid) }
    expect(broker.create_topic("still-here")).to equal broker
    broker.stop
  end

  it "is stopped only by the process that started it" do
    result = run_ruby(<<~RUBY)
      broker = SwarmNative::Kafka::EmbeddedBroker.start
      child = fork do
        broker.stop
        begin
          broker.create_topic("t")
        rescue SwarmNative::StaleHandle => e
          puts e.message.include?(Process.ppid.to_s)
        end
      end
      Process.wait(child)
      broker.create_topic("t")
      puts "still here"
      broker.stop
    RUBY
    expect(result.out).to eq("true\nstill here\n"), result.inspect
  end

  it "hands nothing on to other children of its starter" do
    result = run_ruby(<<~'RUBY')
      before = `ls /proc/self/fd`.split.size
      SwarmNative::Kafka::EmbeddedBroker.start { puts `ls /proc/self/fd`.split.size - before }
    RUBY
    expect(result.out).to eq("0\n"), result.inspect
  end

  it "leaves nothing behind in its starter" do
    result = run_ruby(<<~'RUBY', deadline: 30)
      SwarmNative::Kafka::EmbeddedBroker.start { }
      count = -> { GC.start; [Dir.children("/proc/self/fd").size, Thread.list.size, Dir.children("/proc/self/task").size] }
      before = count.call
      5.times { SwarmNative::Kafka::EmbeddedBroker.start { } }
      puts before == count.call
      begin
        Process.wait
      rescue Errno::ECHILD
        puts "no child"
      end
    RUBY
    expect(result.out).to eq("true\nno child\n"), result.inspect
  end
end
