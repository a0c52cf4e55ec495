# frozen_string_literal: true

require "spec_helper"
require "open3"

# A library that holds a librdkafka without showing its symbols, as a Rust or C extension may: all that is to be seen of
# a live handle is a thread with librdkafka's name. This one has the name and the thread.
RSpec.describe "SwarmNative::ForkGuard and a hidden librdkafka" do
  SOURCE = <<~C
    #define _GNU_SOURCE
    #include <pthread.h>
    #include <semaphore.h>
    static sem_t named, close_it;
    static pthread_t thread;
    static void *run(void *name) {
      pthread_setname_np(pthread_self(), name);
      sem_post(&named);
      while (sem_wait(&close_it) != 0) {}
      return 0;
    }
    void hidden_open(void) {
      sem_init(&named, 0, 0);
      sem_init(&close_it, 0, 0);
      pthread_create(&thread, 0, run, "rdk:main");
      while (sem_wait(&named) != 0) {}
    }
    void hidden_close_soon(void) { sem_post(&close_it); }
    void hidden_close(void) { sem_post(&close_it); pthread_join(thread, 0); }
  C

  def with_library
    Dir.mktmpdir do |folder|
      source, library = %w[hidden.c hidden.so].map { |name| File.join(folder, name) }
      File.write(source, SOURCE)
      output, status = Open3.capture2e("cc", "-shared", "-fPIC", "-pthread", "-o", library, source)
      raise output unless status.success?

      yield library
    end
  end

  it "sees its handle by the thread, says so, and forks as soon as it is closed" do
    with_library do |library|
      result = run_ruby(<<~'RUBY', args: [library])
        require "fiddle"
        Process.wait(fork { exit!(0) })
        hidden = Fiddle.dlopen(ARGV[0])
        function = ->(name) { Fiddle::Function.new(hidden["hidden_#{name}"], [], Fiddle::TYPE_VOID) }
        # A thread of Ruby's may have any name.
        odd = Thread.new { Thread.current.name = "rdk:main"; sleep }
        wait_until { odd.stop? && File.read("/proc/self/task/#{odd.native_thread_id}/comm") == "rdk:main\n" }
        Process.wait(fork { exit!(0) })
        3.times do
          function.call("open").call
          begin
            fork { exit!(0) }
          rescue SwarmNative::ForkRefused => e
            tid = Dir.children("/proc/self/task").find do |task|
              task.to_i != odd.native_thread_id && File.read("/proc/self/task/#{task}/comm") == "rdk:main\n"
            end
            puts e.handles == ["librdkafka handle that is not ours (of #{ARGV[0]}, thread rdk:main #{tid})"]
          end
          puts SwarmNative::ForkGuard.safe?
          function.call("close").call
          Process.wait(fork { exit!(SwarmNative::ForkGuard.safe? ? 5 : 6) })
          puts $?.exitstatus
        end
        # Its thread ends a moment later.
        function.call("open").call
        function.call("close_soon").call
        Process.wait(fork { exit!(7) })
        puts $?.exitstatus
        # In a child that inherits it nothing runs.
        function.call("open").call
        SwarmNative::ForkGuard.bypass { Process.wait(fork { Process.wait(fork { exit!(0) }); exit!(8) }) }
        puts $?.exitstatus
      RUBY
      expect(result).to be_success, result.inspect
      expect(result.out.split).to eq %w[true false 5] * 3 + %w[7 8]
    end
  end
end
